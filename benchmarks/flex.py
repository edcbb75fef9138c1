"""MuJoCo's flex shell as a skin: third opinion, and peer in speed; not part of the package.

Another code and another law: a St Venant-Kirchhoff membrane and a bending that is linear in the vertices, on
the same mesh, pulled by the same springs. MuJoCo 4.0.0 has a solver bug: any other release. What a reader of
its manual would not expect, all measured in release 3.17 and put right here:

- A flex of dim 2 is no plane-stress sheet. On a flat patch (`patch()`) it answers with a shear modulus of
  E / (8 (1 + nu)) and with half of the bulk lambda, E nu / (2 (1 + nu) (1 - 2 nu)); at nu = .49 a sheet is
  six times too stiff against a stretch. An incompressible sheet of modulus E needs nu = 1/4 and 10/3 E.
- Its bending does not vanish in a curved rest shape, 1.8 N at lips as sharp as ours. That force is taken off.
- Bending is scaled so that the patch bends as a plate.
- Stepping creeps for seconds and the solver of a step may stop early, so `settle` looks for the place where
  MuJoCo's own forces vanish; `solve` steps, and serves `commands_to_pixels.py` alone.
"""

from __future__ import annotations

from functools import cache

import mujoco
import numpy as np

from facetwin.twin.errors import FaceTwinError
from facetwin.twin.skin.base import Material, SolveReport, check_points

if mujoco.__version__ == "4.0.0":
    raise ImportError("MuJoCo 4.0.0 has a solver bug; next: pip install 'mujoco!=4.0.0'")

STEP = 0.005  # s
POISSON, STIFFER = 0.25, 10 / 3  # what makes MuJoCo's sheet incompressible, of the material's modulus
CLAMP = 1e4  # N/m, instead of inf, where it is stepped
RAMP = 20  # steps in which goals are reached
LOOK = 10
PARTS = 6  # load steps of `settle`
LONGEST = 1e-3  # m, a vertex in one of its iterations
MEMORY = 12


class FlexSkin:
    """As `BulletSkin`, with the same arguments; `bending` scales MuJoCo's, the patch's figure by default."""

    def __init__(self, rest, triangles, anchored, stiffness, material, *, foundation=0.0,
                 tolerance=2e-5, limit=300, bending=None) -> None:  # fmt: skip
        self.rest, self.anchored = np.array(rest, dtype=np.float64), np.asarray(anchored)
        self.triangles, self.tolerance, self.limit = np.asarray(triangles), tolerance, limit
        v, f = self.rest, self.triangles
        area = np.linalg.norm(np.cross(v[f[:, 1]] - v[f[:, 0]], v[f[:, 2]] - v[f[:, 0]]), axis=1) / 2
        self._tissue = np.asarray(foundation) * np.bincount(f.ravel(), np.repeat(area / 3, 3), len(v))
        self._held = np.isinf(stiffness)
        self._spring = np.minimum(stiffness, CLAMP)
        self._hold = self._tissue.copy()
        self._hold[self.anchored] += self._spring
        self._model = mujoco.MjModel.from_xml_string(self._xml(material))
        self._data = mujoco.MjData(self._model)
        self._model.flex_bending[:] *= patch()[2] if bending is None else bending
        self._strain = -self.force(np.zeros_like(self.rest))
        self._model.dof_damping[:] = 0.02  # the compiler refuses it, the solver does not
        self._model.jnt_stiffness.reshape(len(v), 3, -1)[:] = self._hold[:, None, None]
        self.report = SolveReport(0, 0.0, True, 0.0)

    def _xml(self, material) -> str:
        mass = 1.0 / len(self.rest)
        slides = "".join(f'<joint type="slide" axis="{a}"/>' for a in ("1 0 0", "0 1 0", "0 0 1"))
        bodies = "".join(
            f'<body name="v{i}" pos="{x:.9g} {y:.9g} {z:.9g}"><inertial pos="0 0 0" mass="{mass:.6g}" '
            f'diaginertia="1e-9 1e-9 1e-9"/>{slides}</body>'
            for i, (x, y, z) in enumerate(self.rest.tolist())
        )
        names = " ".join(f"v{i}" for i in range(len(self.rest)))
        zeros = " ".join(["0"] * (3 * len(self.rest)))
        elements = " ".join(map(str, self.triangles.ravel().tolist()))
        return (
            f'<mujoco><option timestep="{STEP}" gravity="0 0 0" integrator="discrete" solver="CG" '
            'tolerance="1e-7" iterations="500" jacobian="sparse"><flag contact="disable"/></option>'
            f'<size memory="1G"/><worldbody>{bodies}</worldbody><deformable>'
            f'<flex name="skin" dim="2" radius="0.001" body="{names}" vertex="{zeros}" element="{elements}">'
            '<contact selfcollide="none" contype="0" conaffinity="0"/>'
            f'<elasticity young="{STIFFER * material.young}" poisson="{POISSON}" damping="0.02" '
            f'thickness="{material.thickness}" elastic2d="both"/></flex></deformable></mujoco>'
        )

    def force(self, moved):
        """MuJoCo's passive forces, N [shape=(N, 3)], where vertices stand `moved` m from rest."""
        self._data.qpos[:] = np.ravel(moved)
        self._data.qvel[:] = 0
        mujoco.mj_fwdPosition(self._model, self._data)
        mujoco.mj_fwdVelocity(self._model, self._data)
        return self._data.qfrc_passive.reshape(-1, 3).copy()

    def settle(self, goals, precondition, *, tolerance=2e-6, limit=400):
        """Vertices [shape=(N, 3), m] where no force is left, for goals [shape=(M, 3), m], from rest.

        L-BFGS on forces alone. `precondition` maps forces [shape=(3 N,)] to steps about as a soft skin's
        stiffness at rest would, held vertices standing still; it sets the speed, not the answer.
        """
        way = check_points(goals, len(self.anchored), "goals") - self.rest[self.anchored]
        held, soft = self.anchored[self._held], self.anchored[~self._held]
        spring = self._spring[~self._held, None]
        self._model.jnt_stiffness[:] = 0
        q, done, left = np.zeros_like(self.rest), 0, np.inf
        for part in range(1, PARTS + 1):
            q[held] = way[self._held] * part / PARTS
            pull = way[~self._held] * part / PARTS

            def unbalanced(q, pull=pull):
                f = self.force(q) + self._strain - self._tissue[:, None] * q
                np.add.at(f, soft, -spring * (q[soft] - pull))
                f[held] = 0
                return f.ravel()

            f, pairs = unbalanced(q), []
            for _ in range(limit):
                step = _quasi_newton(f, pairs, precondition)
                if step @ f <= 0:
                    pairs.clear()
                    step = precondition(f)
                left = float(np.linalg.norm(step.reshape(-1, 3), axis=1).max())
                if left < (tolerance if part == PARTS else 5e-5):
                    break
                step *= min(1.0, LONGEST / left)
                for _ in range(6):  # no further than where the force has turned well against the step
                    after = unbalanced(q + step.reshape(-1, 3))
                    if after @ step > -0.5 * (f @ step):
                        break
                    step *= 0.5
                if (f - after) @ step > 0:
                    pairs.append((step, f - after))
                    del pairs[:-MEMORY]
                q, f, done = q + step.reshape(-1, 3), after, done + 1
        self._model.jnt_stiffness.reshape(len(q), 3, -1)[:] = self._hold[:, None, None]
        self.report = SolveReport(done, left, left < tolerance, 0.0)
        return self.rest + q

    def solve(self, goals, start=None):
        """Vertices [shape=(N, 3), m] for goals [shape=(M, 3), m], stepped from rest until they stand."""
        way = check_points(goals, len(self.anchored), "goals") - self.rest[self.anchored]
        ref = np.zeros_like(self.rest)
        ref[self.anchored] = self._spring[:, None] * way / self._hold[self.anchored, None]
        mujoco.mj_resetData(self._model, self._data)
        self._data.qfrc_applied[:] = self._strain.ravel()
        seen, moved = self._data.qpos.copy(), np.inf
        for done in range(1, self.limit + RAMP + 1):
            self._model.qpos_spring[:] = (ref * min(1.0, done / RAMP)).ravel()
            mujoco.mj_step(self._model, self._data)
            if done > RAMP and done % LOOK == 0:
                before, moved = moved, float(np.abs(self._data.qpos - seen).max())
                seen = self._data.qpos.copy()
                if max(before, moved) < self.tolerance:
                    break
        if not np.isfinite(self._data.qpos).all():
            raise FaceTwinError("the flex exploded", where="FlexSkin")
        self.report = SolveReport(done, moved, moved < self.tolerance, float(self._data.energy[0]))
        return self.rest + self._data.qpos.reshape(-1, 3)


@cache
def patch() -> tuple[float, float, float]:
    """A flat patch against an incompressible plate: tension, shear, and what bending must be scaled by.

    The first two are 1 when right: stress for a stretch one way only, which is 4/3 E, and shear, E/3.
    """
    n, side, material = 11, 0.1, Material()
    x, y = np.meshgrid(*2 * [np.linspace(0, side, n)], indexing="ij")
    rest = np.stack([x, y, 0 * x], -1).reshape(-1, 3)
    i = np.arange(n * n).reshape(n, n)
    a, b, c, d = i[:-1, :-1].ravel(), i[1:, :-1].ravel(), i[1:, 1:].ravel(), i[:-1, 1:].ravel()
    odd = np.add.outer(np.arange(n - 1), np.arange(n - 1)).ravel() % 2 == 1
    one = np.where(odd[:, None], np.stack([a, b, c], 1), np.stack([a, b, d], 1))
    two = np.where(odd[:, None], np.stack([a, c, d], 1), np.stack([b, c, d], 1))
    skin = FlexSkin(rest, np.r_[one, two], np.array([0]), np.array([1.0]), material, bending=1.0)
    skin._model.jnt_stiffness[:] = 0
    strain, section = 1e-3, side * material.thickness * material.young
    right, top = np.isclose(rest[:, 0], side), np.isclose(rest[:, 1], side)
    stretched = skin.force(strain * rest * (1, 0, 0))
    sheared = skin.force(strain * rest[:, [1, 0, 0]] * (1, 0, 0))
    tension = -stretched[right, 0].sum() / (section * strain) / (4 / 3)
    shear = -sheared[top, 0].sum() / (section * strain) * 3
    curvature = 1e-3  # 1/m: so little that the patch does not stretch
    bow = 0.5 * curvature * rest[:, :1] ** 2 * (0, 0, 1)
    energy = -0.5 * (skin.force(bow) * bow).sum()
    plate = 0.5 * material.young * material.thickness**3 / 12 / 0.75 * curvature**2 * side**2
    return float(tension), float(shear), float(plate / energy)


def _quasi_newton(f, pairs, precondition):
    """L-BFGS's step for forces f [shape=(3 N,)], of pairs (step, fall of the force)."""
    v, shares = f.copy(), []
    for s, y in reversed(pairs):
        shares.append(s @ v / (y @ s))
        v -= shares[-1] * y
    v = precondition(v)
    for (s, y), share in zip(pairs, reversed(shares)):
        v += (share - y @ v / (y @ s)) * s
    return v
