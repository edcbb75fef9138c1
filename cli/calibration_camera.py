"""How the recorded rig was seen: head, camera and light, from its film at rest (`facetwin rig calibrate`)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facetwin.cli.progress import Progress
from facetwin.cli.replay import rest_pixels
from facetwin.twin.landmarks import canonical, head_turn
from facetwin.twin.tracker import Tracker

if TYPE_CHECKING:
    from facetwin.hardware.recording import Recording
    from facetwin.twin.calibration.observed import Observed
    from facetwin.twin.spec import CameraSpec, RigSpec

LOOKS = 4  #: of the tracker at replayed pictures, as `rig excite` looks
STILL = 12  #: pictures of the film at rest that the camera is fitted to
CAMERA_ROUNDS = 2


@dataclass(frozen=True)
class Look:
    """The twin by the camera that was found, and what was found.

    Attributes
    ----------
    rig : RigSpec
        Where `alike`, with the trims of the pictures at rest, too.
    changes : dict of key of ``[camera.mirror]`` -> value
    alike : bool
        The twin could be made to look like the film.
    told : dict
        For the report: shares of priors left, px and pixels off.
    """

    rig: RigSpec
    changes: dict[str, float] = field(default_factory=dict)
    alike: bool = False
    told: dict[str, Any] = field(default_factory=dict)


def turned(spec: RigSpec, data: Observed, size: int) -> NDArray[np.float64]:
    """How the head at rest is seen turned, against the table's twin, float64 [shape=(3,), rad]."""
    still = still_pictures(spec, data)
    if still < 3:
        return np.zeros(3)
    with Tracker(looks=LOOKS) as tracker:
        own, _ = rest_pixels(spec, tracker, size=size)
    return np.asarray(np.nanmedian(data.turn[:still], axis=0) - head_turn(own), np.float64)


def still_pictures(spec: RigSpec, data: Observed) -> int:
    """How many pictures were taken before anything moved."""
    away = np.flatnonzero(np.abs(data.sent - spec.rest).max(1) > 0.01)
    until = data.time[away[0]] if len(away) else data.time[-1]
    return int((data.picture_time < until).sum())


def look(
    spec: RigSpec,
    twin: RigSpec,
    recording: Recording,
    data: Observed,
    size: int,
    notes: list[str],
    *,
    alike: bool = True,
) -> Look:
    """Fit camera and light to the film's pictures at rest.

    First by landmarks; then, if with `alike` the twin can be made to look like the film, by its pixels.

    Parameters
    ----------
    spec : RigSpec
        The table; priors are around its camera.
    twin : RigSpec
        What is known of the rig up to now, its camera too.
    notes : list of str
        Taken further: what was left alone, and why.
    """
    from facetwin.twin.calibration.camera_fit import fit_camera
    from facetwin.twin.calibration.face_map import points
    from facetwin.twin.face import load_face

    still = still_pictures(spec, data)
    if still < 3 or "mirror" not in spec.cameras:
        notes.append("camera: left alone, the recording does not begin at rest")
        return Look(twin)
    face = load_face()
    at = points()
    rest = canonical() * face.metres_per_u
    rest[:468] = face.rest[:468]
    seen, pictures = [], []
    mirrored = spec.cameras["mirror"].mirror
    with Tracker(looks=LOOKS) as tracker:
        for _, image in zip(range(min(still, STILL)), recording.pictures()):
            found = tracker.detect(image, mirrored=mirrored)
            if found is not None:
                seen.append(found)
                pictures.append(image)
        if len(seen) < 3:
            notes.append("camera: left alone, the film shows no face at rest")
            return Look(twin)
        height, width = pictures[0].shape[:2]
        mean = np.mean(seen, axis=0, dtype=np.float64)[at, :2]
        now, before = twin, 0.0
        for turn in range(CAMERA_ROUNDS):
            own, image = rest_pixels(now, tracker, size=size)
            camera, fit = fit_camera(
                mean, own[at, :2], rest[at], spec.cameras["mirror"], now.cameras["mirror"], (width, height)
            )
            before = fit.before if turn == 0 else before
            exposure = now.cameras["mirror"].exposure * _brighter(pictures, image, own, mirrored)
            now = _with_camera(now, camera, exposure)
    noise = _noise(recording)
    changes = {**fit.changes, "exposure": float(f"{now.cameras['mirror'].exposure:.4g}"), **noise}
    now = now.with_({f"camera.mirror.{key}": value for key, value in noise.items()})
    told: dict[str, Any] = {"left_of_prior": fit.known, "off_px": {"before": before, "after": fit.after}}
    by_landmarks = Look(now, changes, told=told)
    return _by_pixels(spec, by_landmarks, np.mean(pictures, 0), notes) if alike else by_landmarks


def _by_pixels(spec: RigSpec, begin: Look, film: NDArray[np.float64], notes: list[str]) -> Look:
    # `begin` made better by the mean picture at rest, or as it was if the twin does not look like it.
    from facetwin.cli.calibration_film import rest_views
    from facetwin.twin.calibration.picture_fit import ALIKE, AT_REST, fit_pictures
    from facetwin.twin.face import load_face

    with Progress("looking at the film", total=sum(stage.steps for stage in AT_REST)) as bar:
        views = rest_views(film, begin.rig)
        fit = fit_pictures(views, spec, begin.rig, load_face(), stages=AT_REST, tell=bar.advance)
    pixels = {"before": fit.before, "after": fit.after}
    if not fit.alike:
        notes.append(f"light: left alone, the twin does not look like the film ({fit.after:.3f} of full "
                     f"brightness differ, asked <= {ALIKE:g})")  # fmt: skip
        return replace(begin, told={**begin.told, "pixels": pixels})
    trims = {key: value for key, value in fit.changes.items() if not key.endswith(".scale")}
    cameras = {key.removeprefix("camera.mirror."): v for key, v in trims.items() if key.startswith("camera")}
    known = {key: fit.known[f"camera.mirror.{key}"] for key in cameras}
    return replace(
        begin, rig=begin.rig.with_(trims), changes={**begin.changes, **cameras}, alike=True,
        told={**begin.told, "left_of_prior": known, "pixels": pixels},
    )  # fmt: skip


def _noise(recording: Recording) -> dict[str, float]:
    """What the recorder measured of the camera's noise; a tracker sees a face elsewhere through it."""
    noise = recording.meta.get("noise")
    return {"noise": float(noise)} if isinstance(noise, (int, float)) and 0 <= noise <= 100 else {}


def _with_camera(twin: RigSpec, camera: CameraSpec, exposure: float) -> RigSpec:
    keys = ("position_error", "rotation_error", "distance", "vertical_fov")
    changes = {f"camera.mirror.{k}": getattr(camera, k) for k in keys}
    return twin.with_({**changes, "camera.mirror.exposure": float(np.clip(exposure, 0.05, 20.0))})


def _brighter(
    pictures: list[NDArray[np.uint8]], image: NDArray[np.uint8], points: NDArray[np.float64], mirrored: bool
) -> float:
    """How much more light the film had than the twin's own picture: on the face, linear, between the eyes
    and the nose of `points` [shape=(478, 3), px, flipped back]."""
    left, right = (int(x) for x in np.sort(points[[33, 263], 0]))
    rows = slice(int(points[168, 1]), int(points[2, 1]))

    def light(one: NDArray[np.uint8]) -> float:
        upright = one[:, ::-1] if mirrored else one
        return float(np.median((upright[rows, left:right].astype(np.float64) / 255) ** 2.2))

    return float(np.mean([light(p) for p in pictures]) / max(light(image), 1e-6))
