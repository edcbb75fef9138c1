"""From motor positions to the landmarks that a camera's tracker would give, with derivatives.

The skin is the fast one (or the linear one), plus what another material would change of it: a linear map
in the fast skin's features, from exact skins of other materials. Irises turn with the eyes. What a tracker
makes of the shape is `Response`, learned from the nominal twin seen by that tracker; without one, landmarks
are those of the geometry and lids are not seen. Not here: perspective, and the tracker's noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.autograd import forward_ad

from facetwin.twin.face import Face
from facetwin.twin.kinematics import Kinematics
from facetwin.twin.landmarks import MESH_POINTS, align, canonical, fit_unit, indices
from facetwin.twin.skin.fast_features import Features, goal_matrix
from facetwin.twin.skin.linear import LinearSkin
from facetwin.twin.spec import AXES, RigSpec

Floats = NDArray[np.float64]
#: positions (B, n) -> vertices (B, P, 3), m, of the points that it was made for
SkinMap = Callable[[Tensor], Tensor]

#: keys of the material that are fitted, as logarithms of factors: what they change differs
MATERIAL = ("young", "foundation")
#: factor by which a material differs in the exact skins that the sensitivities come from
APART = 1.3
#: poses of one pass
CHUNK = 2048


def skin_points() -> NDArray[np.intp]:
    """Landmarks on the skin that are compared: face113's, cheeks' and the stable ones, intp [shape=(P,)]."""
    wanted = np.unique(np.concatenate([indices("face113"), indices("cheeks12"), indices("stable")]))
    out: NDArray[np.intp] = wanted[wanted < MESH_POINTS]
    return out


def points() -> NDArray[np.intp]:
    """All landmarks that are compared: those on the skin, then both irises, intp [shape=(P,)]."""
    return np.concatenate([skin_points(), np.arange(MESH_POINTS, MESH_POINTS + 10)])


class LinearMap:
    """The linear skin at some points, in torch: what there is where no fast skin was fitted."""

    def __init__(self, features: Features, table: ArrayLike, rest: ArrayLike) -> None:
        self.features = features
        self._table = torch.as_tensor(np.asarray(table, np.float32))  # (F, P, 3)
        self._rest = torch.as_tensor(np.asarray(rest, np.float32))

    def __call__(self, positions: Tensor) -> Tensor:
        """Vertices (B, P, 3), m, for positions [shape=(B, n)]."""
        f = self.features(positions)[1]
        return self._rest + torch.einsum("bf,fpk->bpk", f, self._table)


def linear_table(
    spec: RigSpec, face: Face, kinematics: Kinematics, features: Features, at: NDArray[np.intp]
) -> Floats:
    """The linear skin of a rig's material in the fast skin's features, float64 [shape=(F, P, 3), m]."""
    from facetwin.twin.twin import build_skin

    goals = goal_matrix(features, kinematics)
    exact = build_skin(spec, face, kinematics)
    return LinearSkin(exact).jacobian(goals.reshape(len(goals), -1, 3))[:, at]


def material_tables(spec: RigSpec, face: Face, kinematics: Kinematics, features: Features) -> Floats:
    """What each of `MATERIAL` changes of the linear skin per e-fold, float64 [shape=(2, F, P, 3), m].

    Only ratios of young x thickness, anchor stiffness and foundation show in the shape: thickness is held.
    """
    at = skin_points()
    out = []
    for key in MATERIAL:
        pair = [
            linear_table(spec.with_({f"material.{key}.factor": f}), face, kinematics, features, at)
            for f in (1 / APART, APART)
        ]
        out.append((pair[1] - pair[0]) / (2 * np.log(APART)))
    return np.array(out)


@dataclass(frozen=True)
class Response:
    """What a tracker makes of geometry: ridge regression, learned where both are known.

    Attributes
    ----------
    modes : float32 [shape=(3 P, k)], directions of the geometric displacement
    centre, scale : float32 [shape=(i,)], of the inputs
    table : float32 [shape=(i + 1, D)], inputs (and 1) to what is seen
    error : float, u, of landmarks on poses that were not learned from
    """

    modes: NDArray[np.float32]
    centre: NDArray[np.float32]
    scale: NDArray[np.float32]
    table: NDArray[np.float32]
    error: float


class FaceMap:
    """Positions to landmarks of one rig: float32 tensors (B, n) -> (B, D).

    D counts the x and y (and z, without a response) of `points` in u, aligned, then the head's turn
    (3, rad). Landmarks are displacements from the face at rest.

    Parameters
    ----------
    spec : RigSpec
    face : Face
    skin : SkinMap
        Vertices of `skin_points` for positions.
    material : float64 [shape=(2, F, P, 3)], optional
        See `material_tables`; without it the material is not fitted.
    """

    def __init__(
        self,
        spec: RigSpec,
        face: Face,
        skin: SkinMap,
        *,
        features: Features | None = None,
        material: Floats | None = None,
    ) -> None:
        self.spec, self.skin = spec, skin
        self.features = features or Features(spec)
        self.metres_per_u = face.metres_per_u
        self.response: Response | None = None
        self.points = points()
        self._skin_rest = torch.as_tensor(face.rest[skin_points()].astype(np.float32))
        self._material = None if material is None else torch.as_tensor(material.astype(np.float32))
        self._rest = torch.as_tensor(spec.rest.astype(np.float32))
        self._span = torch.as_tensor(spec.span.astype(np.float32))
        self._turns: dict[str, list[tuple[int, Tensor, float]]] = {}
        for i, m in enumerate(spec.motors):
            if m.part is not None:
                axis = torch.as_tensor(np.array(AXES[m.part.axis], np.float32))
                self._turns.setdefault(m.part.name, []).append((i, axis, m.part.gain))
        self._iris = [
            (name, torch.as_tensor((canonical()[a : a + 5] * face.metres_per_u).astype(np.float32)),
             torch.as_tensor(np.asarray(face.links[name].pivot, np.float32)))
            for name, a in (("right_eye", 468), ("left_eye", 473))
            if name in face.links
        ]  # fmt: skip
        self.base = _rest_seen(face)  #: (P, 3), u: the face at rest, aligned
        self._upright = torch.as_tensor(_upright(self.points).astype(np.float32))
        lids = [i for i, m in enumerate(spec.motors) if m.part is not None and m.part.name.endswith("_lid")]
        neck = [i for i, m in enumerate(spec.motors) if m.part is not None and m.part.name == "neck"]
        eyes = [i for i, m in enumerate(spec.motors) if m.part is not None and m.part.name.endswith("_eye")]
        self._lids, self._neck, self._eyes = lids, neck, eyes

    @property
    def dims(self) -> int:
        """Coordinates of each landmark that are compared."""
        return 3 if self.response is None else 2

    @property
    def size(self) -> int:
        """D."""
        return self.dims * len(self.points) + 3

    @property
    def materials(self) -> int:
        """Number of material parameters."""
        return 0 if self._material is None else len(self._material)

    def geometry(self, positions: Tensor, material: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Aligned displacements (B, 3 P), u, and the head's turn (B, 3), rad, without a tracker."""
        moved = self.skin(positions) - self._skin_rest  # (B, P, 3)
        if material is not None and self._material is not None:
            table = torch.tensordot(material, self._material, dims=1)  # (F, P, 3)
            moved = moved + torch.einsum("bf,fpk->bpk", self.features(positions)[1], table)
        irises = [
            (at - pivot) @ self._turn(positions, name).transpose(1, 2) + pivot - at
            for name, at, pivot in self._iris
        ]
        d = torch.cat([moved, *irises], 1).flatten(1) / self.metres_per_u
        back = self._turn(positions, "neck").transpose(1, 2)
        return d @ self._upright, _rotation_vector(back)

    def __call__(self, positions: Tensor, material: Tensor | None = None) -> Tensor:
        """What is seen, (B, D)."""
        d, turn = self.geometry(positions, material)
        if self.response is None:
            return torch.cat([d, turn], 1)
        r = self.response
        x = self._inputs(positions, d, turn, torch.from_numpy(r.modes))
        x = (x - torch.from_numpy(r.centre)) / torch.from_numpy(r.scale)
        table = torch.from_numpy(r.table)
        return x @ table[:-1] + table[-1]

    def array(self, positions: ArrayLike, material: ArrayLike | None = None) -> Floats:
        """As a call, with arrays: float64 [shape=(B, D)]."""
        p = torch.as_tensor(np.asarray(positions, np.float32))
        m = None if material is None else torch.as_tensor(np.asarray(material, np.float32))
        with torch.no_grad():
            out = [self(p[k : k + CHUNK], m).double().numpy() for k in range(0, len(p), CHUNK)]
        return np.concatenate(out) if out else np.zeros((0, self.size))

    def gradient(
        self, positions: ArrayLike, material: ArrayLike, motors: NDArray[np.intp]
    ) -> tuple[Floats, NDArray[np.float32]]:
        """What is seen (B, D), and its derivatives by some motors and the material, float32 (B, D, m + q).

        Forward mode: one tangent for each motor, carried through skin, alignment and response.
        """
        p = torch.as_tensor(np.asarray(positions, np.float32))
        mat = torch.as_tensor(np.asarray(material, np.float32))
        columns = len(motors) + self.materials
        out = np.empty((len(p), self.size, columns), np.float32)
        value = np.empty((len(p), self.size))
        step = max(1, CHUNK // columns)
        tangents = torch.zeros(columns, p.shape[1])
        tangents[torch.arange(len(motors)), torch.as_tensor(np.asarray(motors, np.int64))] = 1.0
        for k in range(0, len(p), step):
            part = p[k : k + step]
            b = len(part)
            many = part.repeat_interleave(columns, 0).requires_grad_(True)  # (b x columns, n)
            with forward_ad.dual_level():
                dual = forward_ad.make_dual(many, tangents.repeat(b, 1))
                seen, slope = forward_ad.unpack_dual(self(dual, mat if self.materials else None))
            assert slope is not None
            value[k : k + step] = seen.detach().view(b, columns, -1)[:, 0].double().numpy()
            out[k : k + step] = slope.detach().view(b, columns, -1).transpose(1, 2).numpy()
        if self.materials:
            base = value
            for q in range(self.materials):
                more = np.array(material, np.float64)
                more[q] += 0.05
                out[:, :, len(motors) + q] = (self.array(positions, more) - base) / 0.05
        return value, out

    def target(self, landmarks: ArrayLike, turn: ArrayLike) -> Floats:
        """Landmarks [shape=(F, 478, 3), u] and turns [shape=(F, 3), rad] as this map gives them, (F, D)."""
        seen = np.asarray(landmarks, np.float64)[:, self.points] - self.base
        return np.concatenate([seen[..., : self.dims].reshape(len(seen), -1), np.asarray(turn)], 1)

    def learn(self, positions: ArrayLike, landmarks: ArrayLike, turn: ArrayLike, modes: int = 24) -> Response:
        """Learn the tracker from this very rig seen by it: positions (F, n), landmarks, turns.

        Sets `response`. Every fifth picture tells how strongly to ridge and what the error is.
        """
        self.response = None
        p = torch.as_tensor(np.asarray(positions, np.float32))
        with torch.no_grad():
            d, way = self.geometry(p)
        g = d.numpy()
        _, _, vt = np.linalg.svd(g - g.mean(0), full_matrices=False)
        basis = np.ascontiguousarray(vt[: min(modes, len(g) // 8)].T, dtype=np.float32)
        with torch.no_grad():
            x = self._inputs(p, d, way, torch.from_numpy(basis)).numpy().astype(np.float64)
        centre, scale = x.mean(0), np.maximum(x.std(0), 1e-9)
        x = np.concatenate([(x - centre) / scale, np.ones((len(x), 1))], 1)
        seen = np.asarray(landmarks, np.float64)[:, self.points] - self.base
        y = np.concatenate([seen[..., :2].reshape(len(seen), -1), np.asarray(turn)], 1)
        test = np.arange(len(x)) % 5 == 4
        best = (np.inf, 0.0)
        for ridge in (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0):
            table = _ridge(x[~test], y[~test], ridge)
            left = (x[test] @ table - y[test])[:, :-3].reshape(int(test.sum()), -1, 2)
            best = min(best, (float(np.linalg.norm(left, axis=-1).mean()), ridge))
        table = _ridge(x, y, best[1])
        self.response = Response(
            basis, centre.astype(np.float32), scale.astype(np.float32), table.astype(np.float32), best[0]
        )
        return self.response

    def _inputs(self, positions: Tensor, d: Tensor, turn: Tensor, modes: Tensor) -> Tensor:
        # Shape in its main directions, lids and eyes, the head's turn; squares where a tracker bends.
        lids = positions[:, self._lids] - self._rest[self._lids]
        eyes = positions[:, self._eyes] - self._rest[self._eyes]
        shape = d @ modes
        return torch.cat([shape, lids, lids**2, eyes, turn, turn**2, shape[:, :6] ** 2], 1)

    def _turn(self, positions: Tensor, part: str) -> Tensor:
        # Turn of a part about its pivot, (B, 3, 3).
        out = torch.eye(3).expand(len(positions), 3, 3)
        for i, axis, gain in self._turns.get(part, ()):
            out = out @ _rotation(axis, gain * (positions[:, i] - self._rest[i]) * self._span[i])
        return out


def _ridge(x: Floats, y: Floats, ridge: float) -> Floats:
    penalty = np.full(x.shape[1], ridge)
    penalty[-1] = 0.0
    out: Floats = np.linalg.solve(x.T @ x + np.diag(penalty), x.T @ y)
    return out


def _rest_seen(face: Face) -> Floats:
    """The face at rest as the alignment shows it, float64 [shape=(P, 3), u]."""
    whole = canonical() * face.metres_per_u
    whole[:MESH_POINTS] = face.rest[:MESH_POINTS]
    pixels = whole * (1.0, -1.0, -1.0)
    out: Floats = align(pixels, unit=fit_unit(pixels))[points()].astype(np.float64)
    return out


def _upright(at: NDArray[np.intp]) -> Floats:
    """What the alignment leaves of displacements, for small ones: float64 [shape=(3 P, 3 P)], symmetric use.

    Takes out the similarity that fits the stable points (`facetwin.twin.landmarks.align`).
    """
    rest = canonical()
    stable = indices("stable")

    def ways(points: NDArray[np.intp]) -> Floats:  # (3 k, 7): shifts, turns, growth
        p = rest[points] - rest[stable].mean(0)
        columns = [np.tile(np.eye(3)[k], (len(p), 1)) for k in range(3)]
        columns += [np.cross(np.eye(3)[k], p) for k in range(3)] + [p]
        return np.stack([c.ravel() for c in columns], 1)

    place = np.searchsorted(at[: len(at) - 10], stable)
    pick = (3 * place[:, None] + np.arange(3)).ravel()
    fit = np.linalg.pinv(ways(stable))  # (7, 3 stable)
    out = np.eye(3 * len(at))
    out[:, pick] -= ways(at) @ fit
    return np.ascontiguousarray(out.T)  # rows of displacements from the left


def _rotation(axis: Tensor, angle: Tensor) -> Tensor:
    x, y, z = axis.tolist()
    k = torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    s, c = torch.sin(angle)[:, None, None], torch.cos(angle)[:, None, None]
    return torch.eye(3) + s * k + (1 - c) * (k @ k)


def _rotation_vector(r: Tensor) -> Tensor:
    # Smooth near none at all, right up to a right angle: heads turn less.
    skew = torch.stack(
        [r[:, 2, 1] - r[:, 1, 2], r[:, 0, 2] - r[:, 2, 0], r[:, 1, 0] - r[:, 0, 1]], 1
    ) / 2  # fmt: skip
    square = (skew**2).sum(1, keepdim=True)
    # asin(s) / s as a series: exact to 1e-4 rad at 0.6 rad
    return skew * (1 + square / 6 + 3 * square**2 / 40 + 15 * square**3 / 336 + 105 * square**4 / 3456)
