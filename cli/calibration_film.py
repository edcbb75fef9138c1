"""The calibrated twin held against the film itself (`facetwin rig calibrate`): horns, skin, camera by pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from facetwin.cli.progress import Progress
from facetwin.twin.calibration.parameters import MATERIAL
from facetwin.twin.calibration.picture_fit import (
    AT_REST,
    IN_MOTION,
    PictureFit,
    Stage,
    Views,
    fit_pictures,
)
from facetwin.twin.calibration.traces import SCALE, TRIM, Playback, table_of
from facetwin.twin.face import load_face
from facetwin.twin.kinematics import Kinematics
from facetwin.twin.skin.linear import LinearSkin
from facetwin.twin.twin import FaceTwin, build_skin

if TYPE_CHECKING:
    from facetwin.hardware.recording import Recording
    from facetwin.twin.calibration.observed import Observed
    from facetwin.twin.spec import RigSpec

Floats = NDArray[np.float64]

#: factor by which a parameter of the skin is changed to see what it does
APART = 1.2
#: pictures of one pass
PICTURES = 48


def rest_views(film: Floats, spec: RigSpec, rig: RigSpec) -> Views:
    """The face at rest in its mean picture [shape=(H, W, 3), 0 .. 255], by a rig of `spec`'s table."""
    rest = np.array([m.rest_command + m.trim / m.span for m in rig.motors])
    return _views(film[None] / 255.0, rig, rest[None], np.zeros((1, spec.size)))


def moving_views(
    recording: Recording, data: Observed, spec: RigSpec, rig: RigSpec, numbers: NDArray[np.intp]
) -> Views:
    """The rig in some of the pictures: servos played, skin solved without creep, two of its material's keys."""
    delay = rig.cameras["mirror"].delay - spec.cameras["mirror"].delay
    playback, table = Playback(spec, data.time, data.sent), table_of(rig)
    at = data.picture_time[numbers] - delay
    positions = np.stack(
        [playback.at(playback.play(i, table[i : i + 1])[1], at)[0] for i in range(spec.size)], 1
    )  # (K, n)
    levers = (positions - spec.rest - table[:, TRIM] / spec.span) / table[:, SCALE]
    wanted = set(numbers.tolist())
    film = [image / 255.0 for k, image in enumerate(recording.pictures()) if k in wanted]
    return _views(np.array(film), rig, positions, levers, skin=True)


def skin_keys(rig: RigSpec) -> tuple[str, ...]:
    """Keys of the table behind `Views.shapes`."""
    return (*(f"material.{key}" for key in MATERIAL), *Kinematics(rig, load_face()).patch_keys)


def _views(film: Floats, rig: RigSpec, positions: Floats, levers: Floats, skin: bool = False) -> Views:
    face = load_face()
    with FaceTwin(rig) as twin:
        kinematics = twin.kinematics
        vertices = np.array([twin.move(p).vertices for p in positions])
    linear = LinearSkin(build_skin(rig, face, kinematics))
    slopes = linear.jacobian(kinematics.tangents(rig.rest))
    shapes = np.zeros((len(film), 0, *vertices.shape[1:]))
    if skin:
        away = np.array([kinematics.goals(p) for p in positions]) - kinematics.goals(rig.rest)
        other = []
        for key in MATERIAL:
            rigs = (rig.with_({f"material.{key}.factor": factor}) for factor in (APART, 1 / APART))
            pair = [LinearSkin(build_skin(r, face, kinematics)).jacobian(away) for r in rigs]
            other.append((pair[0] - pair[1]) / (2 * np.log(APART)))
        patches = [
            linear.jacobian(kinematics.patch_lags(p, v)) for p, v in zip(positions, vertices, strict=True)
        ]
        shapes = np.concatenate([np.stack(other, 1), np.array(patches)], 1)  # (K, q, N, 3)
    return Views(film, positions, levers, vertices, slopes, shapes)
