"""The fast skin: the linear map and a learned residual in local bases, certified against `ExactSkin`.

A small net maps the commands of the motors that move the skin to coefficients of a few local bases (POD) of
the right half of the face; the left half is the right half of the mirrored command, so that a mirrored
command gives exactly the mirrored face. A smaller net reads the gap between the lips off the shape of their
margins, and says how wrong the shape may be: poses above a threshold are flagged (``trust`` false), where
silicone folds and no map of the commands is right. Batches run in torch, on any device and with gradients;
single poses in one numba kernel. Not here: the net (`fast_net`), the fit and its certificate (`fast_train`),
the past (hysteresis), contact that was not learned.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file
from torch import Tensor

from facetwin import assets
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.face import Face, load_face
from facetwin.twin.kinematics import Kinematics
from facetwin.twin.skin.base import Floats, SolveReport, check_points
from facetwin.twin.skin.exact import ExactSkin
from facetwin.twin.skin.fast_features import Features, Motors, mirror_vertices
from facetwin.twin.skin.fast_kernels import batch, buffers, single
from facetwin.twin.skin.fast_net import ERROR_SCALE, GAP_SCALE, FastNet, arrays, flipped
from facetwin.twin.skin.fast_poses import mesh_hash, skin_hash
from facetwin.twin.spec import RigSpec

#: commands this far out of [0, 1] are not trusted
MARGIN = 0.01


@dataclass(frozen=True)
class FastShapes:
    """Shapes of a batch of B poses; the torch tensors carry gradients to the positions.

    Attributes
    ----------
    vertices : float32 [shape=(B, N, 3), m], in the skull's frame, or the points asked for
    gap : float32 [shape=(B,), m], opening between the lips, as `lip_gap` measures it
    error : float32 [shape=(B,), m], expected 99th percentile of the vertices' errors
    trust : bool [shape=(B,)]
    """

    vertices: Tensor
    gap: Tensor
    error: Tensor
    trust: Tensor


@dataclass(frozen=True)
class FastShape:
    """Shape of one pose: vertices float32 [shape=(N, 3), m], gap and expected error in m, trust."""

    vertices: NDArray[np.float32]
    gap: float
    error: float
    trust: bool


class FastSkin:
    """The learned skin of one rig on one face; a `Skin`, so that it serves where `ExactSkin` does.

    Parameters
    ----------
    net : FastNet
    kinematics : Kinematics
    columns : int [shape=(blocks, slots)], vertex of each slot, -1 where padded
    threshold : float, m
        Poses with a larger expected error are not trusted.
    sidecar : the certificate and where the weights come from
    backup : ExactSkin, optional
        Solves what is not trusted, in `solve` and `shape`.

    Attributes
    ----------
    points : int [shape=(P,)], the vertices that are computed; all by default, see `only`
    report : SolveReport of the last `solve`: ``step`` is the expected error, ``converged`` the trust
    """

    def __init__(
        self,
        net: FastNet,
        kinematics: Kinematics,
        columns: NDArray[np.integer],
        threshold: float,
        sidecar: dict[str, Any] | None = None,
        *,
        backup: ExactSkin | None = None,
    ) -> None:
        self.net = net.eval().requires_grad_(False)
        self.kinematics, self.threshold = kinematics, float(threshold)
        self.sidecar, self.backup = sidecar or {}, backup
        face = kinematics.face
        self.rest: Floats = face.rest
        self.triangles = face.triangles.astype(np.int64)
        self.anchored = kinematics.anchored.astype(np.int64)
        self.report = SolveReport(0, 0.0, True, 0.0)
        self._columns = np.asarray(columns, np.int64)
        self._mirror = mirror_vertices(face)
        self._motors_of: Motors | None = None
        self._tables: tuple[Tensor, ...] = ()
        self._kernel: Any = ()
        self._single: Any = ()
        self._work: Any = ()
        self._aim(np.arange(len(self.rest)))

    @classmethod
    def load(
        cls,
        spec: RigSpec,
        face: Face | None = None,
        *,
        path: str | Path | None = None,
        kinematics: Kinematics | None = None,
        backup: ExactSkin | None = None,
        device: str | torch.device = "cpu",
    ) -> FastSkin:
        """The fast skin that ships for a rig, or another file of weights, on a torch device.

        Raises `UsageError` where there is none, and `FaceTwinError` where it was fitted to another rig or
        mesh, or the file is not what it should be.
        """
        face = face or load_face()
        file = Path(path) if path is not None else shipped(spec)
        tensors, sidecar = _read(file)
        for what, key, found in (
            ("rig", "skin_hash", skin_hash(spec)), ("mesh", "mesh_hash", mesh_hash(face)),
        ):  # fmt: skip
            if sidecar.get(key) != found:
                raise FaceTwinError(
                    f"a fast skin of another {what}", where=file, found=str(sidecar.get(key))[:12],
                    expected=found[:12], hint=f"facetwin train skin --rig {spec.name}, or the exact skin",
                )  # fmt: skip
        features = Features(spec)
        try:
            blocks, modes, wide = tensors["basis"].shape
            columns = tensors.pop("columns")
            hidden, head = len(tensors["shape.0.bias"]), len(tensors["heads.0.bias"])
            layers = sum(name.startswith("shape.") and name.endswith(".bias") for name in tensors) - 1
            net = FastNet(features, blocks, modes, wide // 3, hidden, head, layers)
            net.load_state_dict({k: torch.from_numpy(v) for k, v in tensors.items()})
            threshold = float(sidecar["threshold_m"])
        except (KeyError, ValueError, RuntimeError) as why:
            raise FaceTwinError(
                "not a fast skin", where=file, found=str(why), hint="facetwin train skin"
            ) from None
        skin = cls(net, kinematics or Kinematics(spec, face), columns, threshold, sidecar, backup=backup)
        return skin.to(device)

    @property
    def spec(self) -> RigSpec:
        """The rig."""
        return self.kinematics.spec

    @property
    def device(self) -> torch.device:
        """Where batches are computed."""
        return self.net.basis.device

    def to(self, device: str | torch.device) -> FastSkin:
        """This skin on a torch device; single poses stay on the CPU."""
        try:
            self.net.to(device)
        except (RuntimeError, AssertionError) as why:
            raise UsageError("no such torch device here", found=str(device), expected=str(why)) from None
        self._tables = tuple(t.to(device) for t in self._tables)
        return self

    def only(self, points: ArrayLike) -> FastSkin:
        """This skin for these vertices alone [shape=(P,)], in this order; landmarks are the first 468.

        `solve` still gives the whole shape and needs the whole skin.
        """
        wanted = np.asarray(points)
        if (
            wanted.ndim != 1 or not len(wanted) or not np.issubdtype(wanted.dtype, np.integer)
            or wanted.min() < 0 or wanted.max() >= len(self.rest)
        ):  # fmt: skip
            raise UsageError(
                "not skin vertices", where="only()", found=wanted.shape,
                expected=f"(P,) integers in 0..{len(self.rest) - 1} (irises are parts, not skin)",
            )  # fmt: skip
        other = copy.copy(self)
        other.net = copy.deepcopy(self.net)
        used = np.isin(self._columns, self._half(wanted))  # (blocks, slots)
        wide = int(used.sum(1).max())
        order = np.argsort(~used, axis=1, kind="stable")[:, :wide]
        other._columns = np.where(
            np.take_along_axis(used, order, 1), np.take_along_axis(self._columns, order, 1), -1
        )
        blocks, modes, _ = self.net.basis.shape
        pick = torch.from_numpy(order).to(self.device)[:, None, :, None].expand(-1, modes, -1, 3)
        other.net.basis = self.net.basis.view(blocks, modes, -1, 3).gather(2, pick).reshape(blocks, modes, -1)
        other._aim(wanted.astype(np.int64))
        return other

    def __call__(self, positions: Tensor, out: Tensor | None = None) -> FastShapes:
        """Shapes for motor positions [shape=(B, n)] in command units, a float tensor on the skin's device.

        ``out`` float32 [shape=(B, P, 3)], on the CPU and without gradients, takes the vertices: fresh memory
        costs a quarter of the time of a batch.
        """
        if positions.ndim != 2 or positions.shape[1] != self.spec.size or not positions.is_floating_point():
            raise FaceTwinError(
                "not motor positions", where="fast skin", found=(tuple(positions.shape), positions.dtype),
                expected=f"floats (B, {self.spec.size})",
            )  # fmt: skip
        if positions.device.type == "cpu" and not (torch.is_grad_enabled() and positions.requires_grad):
            return self._batch(positions.detach().numpy(), out)
        if out is not None:
            raise UsageError("out= is for the CPU, without gradients", where="fast skin")
        net = self.net
        x, features = net.both(positions.to(net.basis.dtype))
        coefficients = net.coefficients(x, features)
        gap, error = net.say(x, coefficients)
        wide = x[: len(positions)].detach().abs().amax(1)
        trust = (error.detach() <= self.threshold) & (wide <= 1 + 2 * MARGIN)
        return FastShapes(self._whole(net.halves(coefficients)), gap, error, trust)

    def _batch(self, positions: NDArray[np.floating], out: Tensor | None) -> FastShapes:
        # The same numbers from one kernel instead of dozens of small operations.
        count = len(positions)
        vertices = torch.empty(count, len(self.points), 3) if out is None else out
        if vertices.shape != (count, len(self.points), 3) or vertices.dtype != torch.float32:
            raise FaceTwinError(
                "wrong shape", where="out", found=tuple(vertices.shape), expected=(count, len(self.points), 3)
            )
        gap, error = np.empty(count, np.float32), np.empty(count, np.float32)
        trust = np.empty(count, bool)
        scales = np.array([GAP_SCALE, ERROR_SCALE], np.float32)
        bounds = np.array([self.threshold, 1 + 2 * MARGIN], np.float32)
        finite = batch(  # type: ignore[call-arg]
            np.ascontiguousarray(positions), *self._kernel, scales, bounds, self._work,
            vertices.numpy().reshape(count, 3 * len(self.points)), gap, error, trust,
        )  # fmt: skip
        if not finite:
            raise FaceTwinError("not finite", where="fast skin", expected="finite commands")
        return FastShapes(vertices, *(torch.from_numpy(a) for a in (gap, error, trust)))

    def shape(self, position: ArrayLike) -> FastShape:
        """Shape for one motor position [shape=(n,)] in command units, without torch."""
        at = np.asarray(position, dtype=np.float64)
        if at.shape != (self.spec.size,) or not np.isfinite(at).all():
            raise FaceTwinError(
                "not a motor position", where="fast skin", found=at.tolist() if at.size < 40 else at.shape,
                expected=f"{self.spec.size} finite numbers",
            )  # fmt: skip
        out = np.empty((len(self.points), 3), np.float32)
        gap, error, widest = single(at, *self._single, out.reshape(1, -1))  # type: ignore[call-arg]
        gap, error = GAP_SCALE * gap, ERROR_SCALE * error
        trust = error <= self.threshold and widest <= 1 + 2 * MARGIN
        if not trust and self.backup is not None:
            exact, report = self.backup.solve_report(
                self.kinematics.goals(at), poses=self.kinematics.seats(at)
            )
            return FastShape(
                exact[self.points].astype(np.float32), self._gap(exact), report.step, report.converged
            )
        return FastShape(out, gap, error, bool(trust))

    def solve(
        self,
        goals: ArrayLike,
        start: ArrayLike | None = None,
        poses: Mapping[str, ArrayLike] | None = None,
    ) -> Floats:
        """Vertices [shape=(N, 3), m] for goals [shape=(M, 3), m], as `Skin` has it.

        The motors are found from the goals; goals that no motors make are refused. ``start`` matters to
        `backup` alone, which solves what is not trusted.
        """
        target = check_points(goals, len(self.anchored), "goals")
        position = self.position_of(target)
        if len(self.points) != len(self.rest):
            raise UsageError("a skin of some points has no whole shape", hint="use the skin before only()")
        if self.backup is None:
            shape = self.shape(position)
        else:
            backup, self.backup = self.backup, None
            try:
                shape = self.shape(position)
            finally:
                self.backup = backup
            if not shape.trust:
                exact, self.report = backup.solve_report(target, start, poses=poses)
                return exact
        self.report = SolveReport(0, shape.error, shape.trust, float("nan"))
        return shape.vertices.astype(np.float64)

    def position_of(self, goals: Floats) -> Floats:
        """The motor positions [shape=(n,)] that pull to these goals [shape=(M, 3), m]; the others at rest."""
        if self._motors_of is None:
            self._motors_of = Motors(self.net.features, self.kinematics)
        return self._motors_of(goals)

    def mended(self, positions: ArrayLike, shapes: FastShapes, exact: ExactSkin) -> NDArray[np.float32]:
        """Vertices of a batch with what is not trusted solved by `exact`, float32 [shape=(B, P, 3), m]."""
        at = np.asarray(positions, dtype=np.float64)
        out = shapes.vertices.detach().cpu().numpy().copy()
        for row in np.flatnonzero(~shapes.trust.cpu().numpy()):
            out[row] = exact.solve(self.kinematics.goals(at[row]), poses=self.kinematics.seats(at[row]))[
                self.points
            ]
        return out

    def _half(self, points: NDArray[np.integer]) -> NDArray[np.intp]:
        # The vertex of the right half that stands for each point: itself, or its partner.
        return np.where(self.rest[points, 0] <= 0, points, self._mirror[points])

    def _aim(self, points: NDArray[np.integer]) -> None:
        # Which slots the points come from: of the pose, of its mirror image, or (in the middle) of both.
        self.points = points
        slot = np.full(len(self.rest), -1)
        flat = self._columns.ravel()
        slot[flat[flat >= 0]] = np.flatnonzero(flat >= 0)
        own = slot[self._half(points)]
        if (own < 0).any():
            raise FaceTwinError("a fast skin without all vertices", hint="facetwin train skin")
        x = self.rest[points, 0]
        side = np.where(x < 0, 0, np.where(x > 0, 1, 2)).astype(np.int64)
        rest = self.rest[points].astype(np.float32)
        slots = self._columns.size
        right, left = np.where(side == 1, own + slots, own), np.where(side == 0, own, own + slots)
        device = self.net.basis.device
        self._tables = tuple(
            torch.from_numpy(np.ascontiguousarray(a)).to(device)
            for a in (right, left, np.where(side == 1, -1, 1).astype(np.float32), side == 2, rest)
        )
        wide = self.net.basis.shape[2]
        f = self.net.features
        motors = (
            f.motors, f.mirror, self.spec.rest[f.motors].astype(np.float32), f.angle.astype(np.float32),
            f.table,
        )  # fmt: skip
        places = (
            3 * own // wide, (side == 1).astype(np.int64), 3 * own % wide,
            np.where(side == 1, -1, 1).astype(np.float32), np.flatnonzero(side == 2), wide,
        )  # fmt: skip
        still = np.where((self._columns >= 0)[..., None], self.rest[self._columns], 0.0)
        hidden, heads, last, basis = arrays(self.net, still.reshape(len(still), -1))
        self._kernel = (motors, hidden, heads, last, basis, places)
        turned = np.ascontiguousarray(last.T)
        self._single = (motors, flipped(hidden), flipped(heads), turned, basis, places)
        self._work = buffers(hidden, heads, last, basis)

    def _whole(self, halves: Tensor) -> Tensor:
        # (blocks, 2 B, 3 slots) -> (B, P, 3): the pose's right half, its mirror image's as the left one.
        n = halves.shape[1] // 2
        right, left, sign, middle, rest = self._tables
        flat = halves.transpose(0, 1).reshape(2, n, -1, 3)  # (side, B, slots of all blocks, 3)
        both = torch.cat([flat[0], flat[1]], 1)  # (B, 2 x slots, 3)
        a, b = both[:, right], both[:, left]  # alike but in the middle
        flip = torch.stack([sign, torch.ones_like(sign), torch.ones_like(sign)], 1)
        mean = torch.stack([(a - b)[..., 0], (a + b)[..., 1], (a + b)[..., 2]], -1) / 2
        return rest + torch.where(middle[:, None], mean, a * flip)

    def _gap(self, vertices: Floats) -> float:
        from facetwin.twin.skin.gap import lip_gap

        face = self.kinematics.face
        return lip_gap(
            vertices,
            face.triangles_of("upper_lip", "upper_rim"),
            face.triangles_of("lower_lip", "lower_rim"),
        )


def shipped(spec: RigSpec) -> Path:
    """Path of the weights that ship for a rig."""
    path = assets.path("skins", f"fast_{spec.name}.safetensors")
    if not path.is_file():
        raise UsageError(
            "no fast skin for this rig", where=spec.name, expected=path.name,
            hint=f"facetwin train skin --rig {spec.name}, or the exact skin",
        )  # fmt: skip
    return path


def _read(file: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    if not file.is_file():
        raise UsageError("no such weights", where=file, hint="facetwin train skin, or check the path")
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError, ValueError) as why:
        raise FaceTwinError(
            "weights do not open: truncated, or not safetensors", where=file, found=str(why),
            hint="copy or train them again",
        ) from None  # fmt: skip
    side = file.with_suffix(".json")
    try:
        sidecar = json.loads(side.read_text("utf-8"))
        if not isinstance(sidecar, dict):
            raise ValueError("no object")
    except (OSError, ValueError) as why:
        raise FaceTwinError("weights without their sidecar", where=side, found=str(why)) from None
    return tensors, sidecar
