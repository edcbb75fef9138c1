"""The second opinion: a skin of springs that PyBullet steps until it stands still (DESIGN section 6).

Independent of the exact skin but for the mesh, the anchors and the material's numbers: another program,
another law (a truss of equal springs, see `truss`), another way to the equilibrium (time). It is slow and
coarse, and meant to be: a check, and the body of an emulated rig. No contact: lips pass through each other.

What PyBullet lacks is a force on a node of a deformable. Its dampers stand in: PyBullet lets positions be
set while velocities stay, so after every step each node, moved by ``v dt``, is moved on by ``u``. What the
skin really does is w = v + u/dt, while the dampers see only v: beside -C w they push with C u/dt, where C is
the graph Laplacian of the links times the damping. u is such that this is the force F of linkages and of the
tissue under the skin at the place where it ends, (C/dt + K) u = F: factored once, stable however stiff K is,
and exact where the skin stands.

PyBullet facts that shape this file: one client per skin, freed by `close`; the node order of the file is
kept; a mesh in pieces never finishes loading; loading is quadratic in faces, and in render faces times
simulation faces, so a token triangle is what it renders; a deformable slower than 4 cm/s for 2 s falls asleep
for ever unless told not to; anchors to bodies of no mass follow these exactly when they are set.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
import pybullet
import scipy.sparse as sp
from numpy.typing import ArrayLike

from facetwin.twin.errors import FaceTwinError
from facetwin.twin.skin.base import Floats, Ints, Material, SolveReport, check_points
from facetwin.twin.skin.truss import build_truss, springs_of

NODE = 1e-3  # kg, mass of a node; the equilibrium does not know it, the longest stable step does
PACE = 0.25e-3  # m, how far goals go in a step on the way to where they are asked
LOOK = 10  # steps between two looks at how far the skin went
FARTHEST = 0.5  # m, farther from rest than this it has exploded


class BulletSkin:
    """Shapes of a soft skin, by PyBullet.

    Parameters
    ----------
    rest, triangles : float64 [shape=(N, 3), m], int64 [shape=(T, 3)]
        The mesh in the shape that nothing pulls, in one piece.
    anchored, stiffness : int64 [shape=(M,)], float64 [shape=(M,), N/m]
        Pulled vertices and the springs that pull them to their goals; inf anchors a vertex to a body.
    material : Material
        Its springs are those of `truss.springs_of`. One thickness for all: lips are no thicker than cheeks.
    foundation : float or float64 [shape=(N,)], N/m per m2
        Springs to rest under the whole skin, like tissue.
    tolerance : float, m
        A solve ends when no vertex went farther than this in `LOOK` steps after the goals were reached.
    limit : int
        Steps at most after the goals were reached.
    dt : float, s
        Length of a step.
    damping : float, N s/m
        Of each link. Less lets the skin swing, more lets it creep.

    The same calls on a fresh skin give the same bits. Raises `FaceTwinError` for bad arrays.
    """

    def __init__(
        self,
        rest: ArrayLike,
        triangles: ArrayLike,
        anchored: ArrayLike,
        stiffness: ArrayLike,
        material: Material | None = None,
        *,
        foundation: ArrayLike = 0.0,
        tolerance: float = 5e-5,
        limit: int = 250,
        dt: float = 1e-3,
        damping: float = 0.08,
    ) -> None:
        self.material = material or Material()
        spring, gap = springs_of(self.material)
        self.truss = build_truss(rest, triangles, spring, gap)
        self.rest: Floats = np.array(rest, dtype=np.float64)
        n = len(self.rest)
        self.triangles: Ints = np.ascontiguousarray(triangles, dtype=np.int64)
        self.anchored, self.stiffness = check_anchors(anchored, stiffness, n)
        for name, value in (("tolerance", tolerance), ("dt", dt), ("damping", damping), ("limit", limit)):
            if not (np.isfinite(value) and value > 0):
                raise FaceTwinError("not a setting", where=name, found=value, expected="a number above 0")
        self.tolerance, self.limit, self.dt, self.damping = tolerance, int(limit), dt, damping
        self._is_held = np.isinf(self.stiffness)
        self._held = self.anchored[self._is_held]
        self._pulled, self._spring = self.anchored[~self._is_held], self.stiffness[~self._is_held]
        if not len(self._held):
            raise FaceTwinError("nothing anchors the skin", where="stiffness", expected="inf somewhere")
        self._tissue = np.broadcast_to(np.asarray(foundation, dtype=np.float64), (n,)) * self._areas()
        hold = self._tissue.copy()
        hold[self._pulled] += self._spring
        either = sp.hstack([0.5 * sp.eye(n), 0.5 * sp.eye(n)])  # nodes to vertices
        drag = (damping / dt) * self.truss.laplacian() + either.T @ sp.diags(hold) @ either
        # anchored nodes are PyBullet's own
        self._free = np.setdiff1d(np.arange(2 * n), np.concatenate([self._held, self._held + n]))
        self._drag = sp.linalg.splu(drag.tocsc()[self._free][:, self._free].tocsc())
        self._goals = self.rest[self.anchored]
        self.report = SolveReport(0, 0.0, True, 0.0)
        self._open()

    def _areas(self) -> Floats:
        v, f = self.rest, self.triangles
        area = np.linalg.norm(np.cross(v[f[:, 1]] - v[f[:, 0]], v[f[:, 2]] - v[f[:, 0]]), axis=1) / 2
        return np.bincount(f.ravel(), np.repeat(area / 3, 3), len(v)).astype(np.float64)

    def _open(self) -> None:
        self._client, self._free_client = open_client(self)
        c = self._client
        pybullet.resetSimulation(pybullet.RESET_USE_DEFORMABLE_WORLD, physicsClientId=c)
        pybullet.setGravity(0, 0, 0, physicsClientId=c)
        pybullet.setTimeStep(self.dt, physicsClientId=c)
        nodes, faces = self.truss.nodes, self.truss.faces
        with tempfile.TemporaryDirectory() as folder:
            seen, mesh = Path(folder) / "seen.obj", Path(folder) / "skin.obj"
            seen.write_text("v 0 0 0\nv 1e-3 0 0\nv 0 1e-3 0\nf 1 2 3\n")
            text = [f"v {x:.12g} {y:.12g} {z:.12g}\n" for x, y, z in nodes.tolist()]
            text += [f"f {a} {b} {d}\n" for a, b, d in (faces + 1).tolist()]
            mesh.write_text("".join(text))
            self._body = pybullet.loadSoftBody(
                str(seen),
                simFileName=str(mesh),
                mass=NODE * len(nodes),
                useMassSpring=1,
                useBendingSprings=0,
                springElasticStiffness=self.truss.stiffness,
                springDampingStiffness=self.damping,
                springDampingAllDirections=1,
                springBendingStiffness=0,
                useNeoHookean=0,
                useSelfCollision=0,
                useFaceContact=0,
                collisionMargin=1e-6,
                physicsClientId=c,
            )
        pybullet.changeDynamics(
            self._body, -1, activationState=pybullet.ACTIVATION_STATE_DISABLE_SLEEPING, physicsClientId=c
        )
        if len(self._nodes()) != len(nodes):
            raise FaceTwinError(
                "PyBullet changed the mesh", where="BulletSkin", found=len(self._nodes()), expected=len(nodes)
            )
        self._bodies = []
        for vertex, place in zip(self._held.tolist(), self.rest[self._held].tolist()):
            body = pybullet.createMultiBody(0, -1, -1, place, physicsClientId=c)
            for node in (vertex, vertex + len(self.rest)):
                offset = (nodes[node] - place).tolist()
                pybullet.createSoftBodyAnchor(self._body, node, body, -1, offset, physicsClientId=c)
            self._bodies.append(body)
        self._x: Floats = nodes.copy()
        self._seen = self._x  # at the last look

    def solve(
        self,
        goals: ArrayLike,
        start: ArrayLike | None = None,
        poses: Mapping[str, ArrayLike] | None = None,
    ) -> Floats:
        """Shape at rest for goals [shape=(M, 3), m] of the anchored vertices: vertices [shape=(N, 3), m].

        It is stepped from ``start`` [shape=(N, 3), m], from rest without one, with goals that move at
        `PACE`, and then until it stands. How it went is in `report`. Raises `FaceTwinError` for wrong
        shapes, numbers that are not finite, and a skin that explodes.
        """
        target = check_points(goals, len(self.anchored), "goals")
        x = self.rest if start is None else check_points(start, len(self.rest), "start")
        self._alive()
        self._place(x)
        steps = self._travel(target)
        moved = np.inf
        for done in range(1, self.limit + 1):
            self._step(target)
            if done % LOOK == 0:
                before, moved = moved, float(np.abs(self._x - self._seen).max())
                self._seen = self._x
                if max(before, moved) < self.tolerance:  # twice, as a swing stands at its ends
                    break
        self.report = SolveReport(
            iterations=steps + done,
            step=moved,
            converged=moved < self.tolerance,
            energy=self.energy(),
        )
        return self.truss.vertices(self._x)

    def advance(self, goals: ArrayLike, duration: float) -> Floats:
        """Let time pass while goals [shape=(M, 3), m] are reached in a straight way: vertices at its end.

        ``duration`` in s, rounded to steps of `dt`, at least one. The skin goes on from where it is and
        how fast it is.
        """
        target = check_points(goals, len(self.anchored), "goals")
        if not (np.isfinite(duration) and duration > 0):
            raise FaceTwinError("not a duration", where="advance()", found=duration, expected="s above 0")
        self._alive()
        count = max(1, round(duration / self.dt))
        begin = self._goals
        for k in range(1, count + 1):
            self._step(begin + (target - begin) * (k / count))
        self._goals = target
        return self.truss.vertices(self._x)

    def energy(self) -> float:
        """Energy in J of the shape as it is: springs, linkages and tissue, without what moves."""
        x = self.truss.vertices(self._x)
        give = x[self._pulled] - self._goals[~self._is_held]
        sunk = x - self.rest
        return (
            self.truss.energy(self._x)
            + 0.5 * float(self._spring @ (give**2).sum(1))
            + 0.5 * float(self._tissue @ (sunk**2).sum(1))
        )

    def pulls(self) -> Floats:
        """Force of each linkage on the skin, float64 [shape=(M, 3), N]; NaN where it is clamped."""
        out = np.full((len(self.anchored), 3), np.nan)
        give = self._goals[~self._is_held] - self.truss.vertices(self._x)[self._pulled]
        out[~self._is_held] = self._spring[:, None] * give
        return out

    def reset(self) -> None:
        """Back to rest, standing still."""
        self._disconnect_and_open()

    def close(self) -> None:
        """Free PyBullet's world; closing twice is fine."""
        self._free_client()

    def __enter__(self) -> BulletSkin:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _disconnect_and_open(self) -> None:
        self._free_client()
        self._goals = self.rest[self.anchored]
        self._open()

    def _place(self, vertices: Floats) -> None:
        # Layers go along with their vertices; where they tilt they find their place in a few steps.
        if not np.array_equal(vertices, self.truss.vertices(self._x)):
            self._set(np.tile(vertices - self.rest, (2, 1)) + self.truss.nodes)
            self._goals = vertices[self.anchored]
        self._seen = self._x

    def _travel(self, target: Floats) -> int:
        begin = self._goals
        far = float(np.linalg.norm(target - begin, axis=1).max())
        count = int(np.ceil(far / PACE))
        for k in range(1, count + 1):
            self._step(begin + (target - begin) * (k / count))
        return count

    def _step(self, goals: Floats) -> None:
        c = self._client
        if not np.array_equal(goals, self._goals):
            for body, place in zip(self._bodies, goals[self._is_held].tolist()):
                pybullet.resetBasePositionAndOrientation(body, place, (0, 0, 0, 1), physicsClientId=c)
            self._goals = goals
        pybullet.stepSimulation(physicsClientId=c)
        x = self._nodes()
        at = self.truss.vertices(x)
        force = self._tissue[:, None] * (self.rest - at)
        force[self._pulled] += self._spring[:, None] * (goals[~self._is_held] - at[self._pulled])
        x[self._free] += self._drag.solve(np.tile(0.5 * force, (2, 1))[self._free])
        self._set(x)

    def _set(self, nodes: Floats) -> None:
        pybullet.resetMeshData(self._body, nodes.tolist(), physicsClientId=self._client)
        self._x = nodes
        if not np.abs(nodes - self.truss.nodes).max() < FARTHEST:
            raise FaceTwinError(
                "the skin exploded", where="BulletSkin", hint="take a shorter dt or a softer material"
            )

    def _nodes(self) -> Floats:
        found = pybullet.getMeshData(
            self._body, -1, flags=pybullet.MESH_DATA_SIMULATION_MESH, physicsClientId=self._client
        )
        return np.array(found[1], dtype=np.float64)

    def _alive(self) -> None:
        if not self._free_client.alive:
            raise FaceTwinError("the skin is closed", where="BulletSkin", hint="make another")


def check_anchors(anchored: ArrayLike, stiffness: ArrayLike, count: int) -> tuple[Ints, Floats]:
    """Anchored vertices [shape=(M,)] and their springs [shape=(M,), N/m], checked; inf is a clamp."""
    where = np.ascontiguousarray(anchored, dtype=np.int64)
    spring = np.ascontiguousarray(stiffness, dtype=np.float64)
    if where.ndim != 1 or spring.shape != where.shape or not len(where):
        raise FaceTwinError("not anchors", where="anchored", found=(where.shape, spring.shape))
    if where.min() < 0 or where.max() >= count or len(np.unique(where)) < len(where):
        raise FaceTwinError(
            "not vertices", where="anchored", found=int(where.max()), expected=f"each once, below {count}"
        )
    if not (spring > 0).all():
        raise FaceTwinError(
            "not a stiffness", where="stiffness", found=float(spring.min()), expected="N/m above 0, or inf"
        )
    return where, spring


def open_client(owner: object) -> tuple[int, weakref.finalize]:
    """A PyBullet world of one's own: its number, and what frees it, at the latest with the owner."""
    client = pybullet.connect(pybullet.DIRECT)
    if client < 0:
        raise FaceTwinError("no PyBullet world left", where=type(owner).__name__, hint="close some")
    return client, weakref.finalize(owner, _disconnect, client)


def _disconnect(client: int) -> None:
    if pybullet.isConnected(client):
        pybullet.disconnect(client)
