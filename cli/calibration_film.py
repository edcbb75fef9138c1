"""The calibrated twin held against the film itself (`facetwin rig calibrate`): by its pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from facetwin.cli.progress import Progress
from facetwin.twin.calibration.parameters import MATERIAL
from facetwin.twin.calibration.picture_fit import (
    IN_MOTION,
    Views,
    fit_pictures,
)
from facetwin.twin.calibration.traces import SCALE, TRIM, Playback, table_of
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.face import load_face
from facetwin.twin.skin.linear import LinearSkin
from facetwin.twin.twin import FaceTwin, build_skin

if TYPE_CHECKING:
    from facetwin.hardware.recording import Recording
    from facetwin.twin.calibration.observed import Observed
    from facetwin.twin.spec import RigSpec

Floats = NDArray[np.float64]

#: factor by which a parameter of the skin is changed to see what it does
APART = 1.2
#: pictures of the film that are drawn
PICTURES = 48
#: share of the prior's spread that is left, from which on a parameter counts as not seen
UNSEEN = 0.9


def rest_views(film: Floats, rig: RigSpec) -> Views:
    """The face at rest in its mean picture [shape=(H, W, 3), 0 .. 255]."""
    rest = np.array([m.rest_command + m.trim / m.span for m in rig.motors])
    return views_of(film[None] / 255.0, rig, rest[None], np.zeros((1, rig.size)))


def moving_views(
    recording: Recording, data: Observed, spec: RigSpec, rig: RigSpec, numbers: NDArray[np.intp]
) -> Views:
    """The rig in some of the pictures: servos played, skin solved, without creep."""
    wanted = set(numbers.tolist())
    film = {k: image / 255.0 for k, image in enumerate(recording.pictures()) if k in wanted}
    numbers = numbers[np.isin(numbers, list(film))]  # a torn film lacks the last ones
    if len(numbers) == 0:
        raise FaceTwinError("the film is empty", where=recording.folder, hint="record again")
    delay = rig.cameras["mirror"].delay - spec.cameras["mirror"].delay
    playback, table = Playback(spec, data.time, data.sent), table_of(rig)
    at = data.picture_time[numbers] - delay
    positions = np.stack(
        [playback.at(playback.play(i, table[i : i + 1])[1], at)[0] for i in range(spec.size)], 1
    )  # (K, n)
    levers = (positions - spec.rest - table[:, TRIM] / spec.span) / table[:, SCALE]
    return views_of(np.array([film[k] for k in numbers.tolist()]), rig, positions, levers, skin=True)


def fit_film(
    recording: Recording, data: Observed, spec: RigSpec, rig: RigSpec, numbers: NDArray[np.intp], rounds: int
) -> tuple[dict[str, float], dict[str, float], list[float]]:
    """Horns, skin and camera by the pixels of some pictures.

    Returns
    -------
    changes : dict of key of the table -> value, of what shows in the pictures
    known : dict of key -> share of the prior's spread that is left
    off : list of float, root mean squares of the pixels' differences before, and after each round
    """
    off: list[float] = []
    changes: dict[str, float] = {}
    known: dict[str, float] = {}
    with Progress("looking at the film", total=rounds * sum(stage.steps for stage in IN_MOTION)) as bar:
        for _ in range(rounds):
            views = moving_views(recording, data, spec, rig, numbers)
            fit = fit_pictures(views, spec, rig, load_face(), stages=IN_MOTION, tell=bar.advance)
            off += [fit.before, fit.after] if not off else [fit.after]
            known = fit.known
            new = fit.changes | {key: rig.number(key) * factor for key, factor in fit.factors.items()}
            changes |= {key: float(f"{new[key]:.6g}") for key in new if known[key] < UNSEEN}
            rig = rig.with_(changes)
    return changes, known, off


def views_of(film: Floats, rig: RigSpec, positions: Floats, levers: Floats, skin: bool = False) -> Views:
    """Pictures and the rig's own face in them; with `skin` what its material and stiffness do, too."""
    face = load_face()
    with FaceTwin(rig) as twin:
        kinematics = twin.kinematics
        vertices = np.array([twin.move(p).vertices for p in positions])
    linear = LinearSkin(build_skin(rig, face, kinematics))
    slopes = linear.jacobian(kinematics.tangents(rig.rest))
    shapes = np.zeros((len(film), 0, *vertices.shape[1:]))
    keys: tuple[str, ...] = ()
    if skin:
        keys = (*(f"material.{key}" for key in MATERIAL), *kinematics.patch_keys)
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
    return Views(film, positions, levers, vertices, slopes, shapes, keys)
