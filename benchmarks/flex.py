"""MuJoCo's flex shell as a skin: the peer of `commands_to_pixels.py`; not part of the package.

St Venant-Kirchhoff membrane and its own bending law on the same mesh; linkages and tissue are the springs of
the vertices' slide joints. Stepped until it stands. Not a third opinion yet: on two poses it differed from
the exact skin without contact by .6 of 1.5 mm and 1.0 of 2.9 mm, and its linear solver warned that it had
not converged. MuJoCo 4.0.0 has a solver bug: any other release.
"""

from __future__ import annotations

import mujoco
import numpy as np

from facetwin.twin.errors import FaceTwinError
from facetwin.twin.skin.base import SolveReport, check_points

if mujoco.__version__ == "4.0.0":
    raise ImportError("MuJoCo 4.0.0 has a solver bug; next: pip install 'mujoco!=4.0.0'")

STEP = 0.005  # s
POISSON = 0.49  # of rubber, as near as it can be
CLAMP = 1e4  # N/m, instead of inf
RAMP = 20  # steps in which goals are reached
LOOK = 10


class FlexSkin:
    """As `BulletSkin`, with the same arguments."""

    def __init__(self, rest, triangles, anchored, stiffness, material, *, foundation=0.0,
                 tolerance=2e-5, limit=300) -> None:  # fmt: skip
        self.rest, self.anchored = np.array(rest, dtype=np.float64), np.asarray(anchored)
        self.triangles, self.tolerance, self.limit = np.asarray(triangles), tolerance, limit
        v, f = self.rest, self.triangles
        area = np.linalg.norm(np.cross(v[f[:, 1]] - v[f[:, 0]], v[f[:, 2]] - v[f[:, 0]]), axis=1) / 2
        self._tissue = np.asarray(foundation) * np.bincount(f.ravel(), np.repeat(area / 3, 3), len(v))
        self._spring = np.minimum(stiffness, CLAMP)
        self._hold = self._tissue.copy()
        self._hold[self.anchored] += self._spring
        self._model = mujoco.MjModel.from_xml_string(self._xml(material))
        self._data = mujoco.MjData(self._model)
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
            f'<elasticity young="{material.young}" poisson="{POISSON}" damping="0.02" '
            f'thickness="{material.thickness}" elastic2d="both"/></flex></deformable></mujoco>'
        )

    def solve(self, goals, start=None):
        """Vertices [shape=(N, 3), m] for goals [shape=(M, 3), m], from rest."""
        way = check_points(goals, len(self.anchored), "goals") - self.rest[self.anchored]
        ref = np.zeros_like(self.rest)
        ref[self.anchored] = self._spring[:, None] * way / self._hold[self.anchored, None]
        mujoco.mj_resetData(self._model, self._data)
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
