"""From motor positions to rigid parts and to where the skin is pulled.

The head is a small tree: body, neck, skull on the neck, and on the skull the jaw, the eyes and the lids.
The skin lives in the skull's frame; motors pull patches of it (`Pull`), other patches are glued to bone
(`Anchor`), and its border is clamped to a flange that follows the jaw towards the chin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetwin.twin.errors import FaceTwinError
from facetwin.twin.face import Face
from facetwin.twin.spec import AXES, RigSpec

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Patch:
    rows: NDArray[np.intp]  # places in `anchored`
    weight: Array  # share of each vertex's goal that this patch decides
    share: float  # of the jaw's motion
    motor: int  # -1: glued, no motor


class Kinematics:
    """Rigid poses and skin goals of one rig on one face.

    Attributes
    ----------
    anchored : int [shape=(M,)]
        Skin vertices that something holds.
    stiffness : float [shape=(M,), N/m]
        How hard each is held; inf on the border.
    links : tuple of str
        Every link that moves, in the order of the poses.
    """

    def __init__(self, spec: RigSpec, face: Face) -> None:
        self.spec, self.face = spec, face
        self.links = tuple(face.links)
        for motor in spec.motors:
            if motor.part is not None and motor.part.name not in face.links:
                raise FaceTwinError(
                    "the face has no such part",
                    where=f"{spec.source}: motor {motor.name}: part",
                    found=motor.part.name,
                    expected="one of " + ", ".join(face.links),
                )
        self._turns: dict[str, list[int]] = {name: [] for name in face.links}
        for i, motor in enumerate(spec.motors):
            if motor.part is not None:
                self._turns[motor.part.name].append(i)
        self._build_patches()

    def _build_patches(self) -> None:
        face, spec = self.face, self.spec
        pulls: list[tuple[NDArray[np.int32], float, float, int]] = []
        for i, motor in enumerate(spec.motors):
            if motor.pull is not None:
                p = motor.pull
                share = p.share if p.carrier == "jaw" else 0.0
                pulls.append((face.near(p.landmarks, p.radius), p.stiffness, share, i))
        for a in spec.anchors:
            share = a.share if a.carrier == "jaw" else 0.0
            pulls.append((face.near(a.landmarks, a.radius), a.stiffness, share, -1))
        border = set(face.border.tolist())
        held: dict[int, float] = {}
        pulls = [(np.array([v for v in vs if v not in border], np.int32), k, s, i) for vs, k, s, i in pulls]
        for vertices, stiffness, _, motor_index in pulls:
            if len(vertices) == 0 and motor_index >= 0:  # glue on the clamped border is merely needless
                name = spec.names[motor_index]
                raise FaceTwinError(
                    "pulls no skin", where=f"{spec.source}: {name}", hint="enlarge its radius"
                )
            for v in vertices.tolist():
                held[v] = held.get(v, 0.0) + min(stiffness, 1e9)
        self.anchored = np.array(sorted(held) + sorted(border), dtype=np.intp)
        row = {int(v): k for k, v in enumerate(self.anchored)}
        self.stiffness = np.array([held.get(int(v), np.inf) for v in self.anchored])
        self.stiffness[self.stiffness >= 1e9] = np.inf
        self._rest = face.rest[self.anchored]  # (M, 3)
        self._patches = [
            _Patch(
                rows=np.array([row[v] for v in vertices.tolist()], np.intp),
                weight=np.array([min(stiffness, 1e9) / held[v] for v in vertices.tolist()]),
                share=share,
                motor=motor_index,
            )
            for vertices, stiffness, share, motor_index in pulls
        ]
        #: share of the jaw's motion of each held vertex
        self._share = np.zeros(len(self.anchored))
        for patch in self._patches:
            np.add.at(self._share, patch.rows, patch.weight * patch.share)
        rim = np.array([row[int(v)] for v in sorted(border)], np.intp)
        self._share[rim] = face.jaw_share[self.anchored[rim]]

    @property
    def patch_keys(self) -> tuple[str, ...]:
        """Keys of the table that say how hard each patch of skin is held: motors' first, then anchors'."""
        motors = [f"motor.{m.name}.pull.stiffness" for m in self.spec.motors if m.pull is not None]
        return (*motors, *(f"anchor.{a.name}.stiffness" for a in self.spec.anchors))

    def patch_lags(self, position: ArrayLike, vertices: ArrayLike) -> Array:
        """How far each patch's skin is from where that patch alone pulls it, float64 [shape=(P, M, 3), m].

        For vertices [shape=(N, 3), m] in the skull's frame; by the share that the patch has of each vertex.
        As displacements of the goals these act, to first order, as an e-fold of its stiffness does.
        """
        command = np.asarray(position, dtype=np.float64)
        jaw = self.local(command)["jaw"]
        ridden = self._rest @ jaw[:3, :3].T + jaw[:3, 3]
        at = np.asarray(vertices, dtype=np.float64)[self.anchored]  # (M, 3)
        out = np.zeros((len(self._patches), *at.shape))
        for k, patch in enumerate(self._patches):
            rows, way = patch.rows, self._way(patch, command, jaw)
            own = self._rest[rows] + patch.share * (ridden[rows] - self._rest[rows]) + way
            out[k, rows] = patch.weight[:, None] * (own - at[rows])
        return out

    def _way(self, patch: _Patch, command: Array, jaw: Array) -> Array:
        # How far a patch's motor carries it, float64 [shape=(3,), m].
        if patch.motor < 0:
            return np.zeros(3)
        motor = self.spec.motors[patch.motor]
        assert motor.pull is not None
        way = motor.pull.displacement(command[patch.motor], motor.rest_command)  # (3,)
        if patch.share > 0:
            way = way + patch.share * (jaw[:3, :3] @ way - way)
        return way

    @property
    def border_rows(self) -> NDArray[np.intp]:
        """Places in `anchored` that are clamped to the flange."""
        return np.flatnonzero(np.isinf(self.stiffness))

    def angles(self, position: ArrayLike) -> Array:
        """Motor positions in command units [shape=(..., n)] to turns from rest [shape=(..., n), rad]."""
        return (np.asarray(position, dtype=np.float64) - self.spec.rest) * self.spec.span

    def local(self, position: ArrayLike) -> dict[str, Array]:
        """Turn of each link about its own pivot, in its parent's frame.

        Positions [shape=(..., n)] -> link: float64 [shape=(..., 4, 4)].
        """
        angles = self.angles(position)  # (..., n)
        out = {}
        for name, link in self.face.links.items():
            turn = np.broadcast_to(np.eye(3), (*angles.shape[:-1], 3, 3))
            for i in self._turns[name]:  # in the order of the rig file
                part = self.spec.motors[i].part
                assert part is not None
                turn = turn @ _rotation(AXES[part.axis], part.gain * angles[..., i])
            pose = np.zeros((*angles.shape[:-1], 4, 4))
            pose[..., :3, :3] = turn
            pose[..., :3, 3] = link.pivot - (turn @ link.pivot[:, None])[..., 0]
            pose[..., 3, 3] = 1.0
            out[name] = pose
        return out

    def poses(self, position: ArrayLike) -> dict[str, Array]:
        """Where each link is, in the body's frame (at rest the face's).

        Positions [shape=(..., n)] -> link: float64 [shape=(..., 4, 4)].
        """
        local = self.local(position)
        lead = np.shape(position)[:-1]
        out: dict[str, Array] = {"body": np.broadcast_to(np.eye(4), (*lead, 4, 4)).copy()}
        for name, link in self.face.links.items():  # parents come first
            out[name] = out[link.parent] @ local[name]
        return out

    def seats(self, position: ArrayLike) -> dict[str, Array]:
        """Each link in the frame of the skull, where the skin lives: positions (..., n) -> (..., 4, 4)."""
        poses = self.poses(position)
        skull = np.linalg.inv(poses["skull"])
        return {name: skull @ pose for name, pose in poses.items()}

    def goals(self, position: ArrayLike) -> Array:
        """Where the held vertices are pulled to, float64 [shape=(M, 3), m], in the skull's frame."""
        command = np.asarray(position, dtype=np.float64)
        jaw = self.local(command)["jaw"]
        ridden = self._rest @ jaw[:3, :3].T + jaw[:3, 3]
        goals = self._rest + self._share[:, None] * (ridden - self._rest)  # (M, 3)
        for patch in self._patches:
            if patch.motor >= 0:
                goals[patch.rows] += patch.weight[:, None] * self._way(patch, command, jaw)
        return goals

    def tangents(self, position: ArrayLike | None = None, step: float = 1e-4) -> Array:
        """Change of the goals per unit of each command at `position` (rest), float64 [shape=(n, M, 3), m]."""
        at = self.spec.rest if position is None else np.asarray(position, dtype=np.float64)
        out = np.empty((self.spec.size, len(self.anchored), 3))
        for i in range(self.spec.size):
            d = np.zeros(self.spec.size)
            d[i] = step
            out[i] = (self.goals(at + d) - self.goals(at - d)) / (2 * step)
        return out


def _rotation(axis: tuple[float, float, float], angle: Array) -> Array:
    x, y, z = axis
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    sine, cosine = np.sin(angle)[..., None, None], np.cos(angle)[..., None, None]
    rotation: Array = np.eye(3) + sine * k + (1 - cosine) * (k @ k)
    return rotation
