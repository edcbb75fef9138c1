"""`facetwin rig calibrate`: fit a rig table to a recording of the rig (docs/calibration.md).

camera, light, trims (film at rest) → tracker's response (the twin played again) → servos, horns (fit) →
horns, skin (film in motion) → the calibrated twin played again at held-out pictures → rig file and report.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray

from facetwin.cli.calibration_camera import LOOKS, Look, look, turned
from facetwin.cli.progress import Progress
from facetwin.twin.calibration.parameters import MATERIAL, NAMES, SCALE, TRIM, Values
from facetwin.twin.errors import FaceTwinError, UsageError

if TYPE_CHECKING:
    from facetwin.hardware.recording import Recording
    from facetwin.twin.calibration.face_map import FaceMap
    from facetwin.twin.calibration.fit import Fit, Fitter
    from facetwin.twin.calibration.observed import Observed
    from facetwin.twin.spec import RigSpec

GEOMETRY = "geometry"  #: in meta.json, where landmarks are not a tracker's
SHOWN = 5  #: pictures in the report


@dataclass(frozen=True)
class RigCalibrate:
    """Fit a rig table to a recording: servos, horns, skin and camera; writes a rig file and a report."""

    recording: tyro.conf.Positional[Path]
    """Recording of the rig, best made by `facetwin rig excite`."""
    rig: str = "face26"
    """Rig table to begin from: a shipped name or a TOML file."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("out/calibrated")
    """Folder for the rig file and the report."""
    other_face: bool = False
    """The recorded face is not shaped like the twin's: only displacements are compared."""
    skin: Path | None = None
    """Weights of the fast skin; default: those that ship for the rig, else the linear skin."""
    replay: int = 240
    """Pictures that the twin is played again at, to learn what the tracker makes of its shapes."""
    refine: int = 2
    """Rounds of holding the calibrated twin against the film, pixel by pixel; where it does not look like it,
    against what the tracker saw."""
    adapt: int = 240
    """Poses of the mouth at which both tables' twins are held against each other, for a self-model of this
    robot that `speak` goes by; 0: none."""
    check: int = 60
    """Held-out pictures that the twin is played again at, before and after; 0: none."""
    json: bool = False
    """Print one JSON object."""


def run(options: RigCalibrate) -> int:
    """Calibrate; exit code 0, or an error."""
    from facetwin.cli.adapted import adapt_beside
    from facetwin.cli.calibration_report import print_scores, write_report
    from facetwin.hardware.recording import Recording
    from facetwin.twin.calibration.fit import Fitter
    from facetwin.twin.calibration.rig_file import write_rig
    from facetwin.twin.calibration.scores import score
    from facetwin.twin.spec import load_rig

    started = time.process_time()
    if 0 < options.adapt < 50:
        raise UsageError("too few poses", where="--adapt", found=options.adapt, expected="at least 50, or 0")
    if options.replay < 40 or options.check < 0:
        raise UsageError("too few pictures", where="--replay", found=options.replay, expected="at least 40")
    spec = load_rig(options.rig)
    recording = Recording(options.recording)
    data = observe(recording, spec)
    notes: list[str] = []
    face_map, kind = build_map(spec, notes, options.skin)
    seen_by = Look(spec)
    geometry = recording.meta.get("landmarks") == GEOMETRY
    size = _size(recording)
    fitter = Fitter(spec, data, face_map, same_face=not options.other_face)
    begin = fitter.nothing()
    if not geometry:
        begin = fitter.begin(turned(spec, data, size))
        upright = spec.with_(fitter.scale.changes(begin, fitter.fitted))
        seen_by = look(spec, upright, recording, data, size, notes, alike=not options.other_face)
        if seen_by.alike:
            _set(begin, spec, seen_by.rig)
        _learn(face_map, seen_by.rig, spec, data, options.replay, size)
        fixed = _trims(spec, all_of_them=seen_by.alike)
        fitter = Fitter(spec, data, face_map, same_face=not options.other_face, fixed=fixed)
    with Progress("fitting", total=3) as bar:
        fit = fitter.fit(rounds=3, tell=lambda _: bar.advance(1), begin=begin)
    changes = _changes(fitter, fit, seen_by)
    if seen_by.alike and options.refine:
        changes, seen_by = _by_film(fitter, fit, seen_by, changes, recording, options.refine)
    elif not geometry:
        for _ in range(options.refine):
            fit, seen_by = _refine(fitter, fit, seen_by, recording, size, options)
        changes = _changes(fitter, fit, seen_by)
    scores = score(fitter, fit)
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / f"{spec.name}.toml"
    note = f"{spec.name} calibrated by facetwin to {options.recording.name}"
    calibrated = write_rig(file, options.rig, changes, note)
    result: dict[str, Any] = {
        "rig": str(file),
        "recording": str(options.recording),
        "skin": kind,
        "landmarks": GEOMETRY if geometry else "tracker",
        "changed": changes,
        "scores": scores.to_dict(),
        "known": known(fitter, fit),
        "camera": {"changes": seen_by.changes, **seen_by.told} if seen_by.changes else {},
        "notes": [*notes, *fit.notes],
        "tracker_error_u": None if face_map.response is None else face_map.response.error,
    }
    strip: list[list[NDArray[np.uint8]]] = []
    if options.check and not geometry:
        result["closed"], strip = _closed(spec, calibrated, fitter, recording, options, size)
    if options.adapt:
        result["self_model"] = adapt_beside(file, spec, options.adapt, result["notes"])
    result["cpu_s"] = round(time.process_time() - started, 1)
    made = [w] if (w := result.get("self_model", {}).get("weights")) else []
    result["files"] = [str(file), *made, *write_report(options.out, spec, fitter, fit, result, strip)]
    if options.json:
        print(json.dumps(result))
    else:
        print_scores(result)
    return 0


def observe(recording: Recording, spec: RigSpec) -> Observed:
    """The recording as arrays, checked; a `UsageError` in one line says what is wrong with it."""
    from facetwin.twin.calibration.observed import Observed, check

    where = recording.folder
    if recording.motors != spec.names:
        raise UsageError("recorded with another rig's table", where=where, found=recording.meta.get("rig"),
                         expected=f"the {spec.size} motors of {spec.name}",
                         hint="name its table with --rig")  # fmt: skip
    table = recording.meta.get("rig_table") or {}
    for motor, other in zip(spec.motors, table.get("motors", ())):
        for key in ("lower", "upper", "rest"):
            if abs(float(other.get(key, np.nan)) - getattr(motor, key)) > 1e-9:
                raise UsageError(
                    "recorded with another rig's table", where=f"{where}: motor {motor.name}: {key}",
                    found=other.get(key), expected=getattr(motor, key), hint="name its table with --rig",
                )  # fmt: skip
    for key in ("rows", "frames", "landmarks"):
        _columns(recording, key)
    try:
        rows, frames = recording.rows(), recording.frames()
        landmarks, turns = recording.landmarks(), recording.turns()
    except (ValueError, KeyError) as why:
        raise UsageError("a column is missing, or of another kind", where=where, found=str(why)) from None
    data = Observed(
        rows["time"].astype(np.float64), rows["sent"].astype(np.float64), rows["measured"].astype(np.float64),
        frames["time"].astype(np.float64), landmarks.astype(np.float64), turns.astype(np.float64),
    )  # fmt: skip
    return check(data, spec, where)


def _columns(recording: Recording, key: str) -> None:
    # Say which column a table lacks before anything casts it.
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = recording._schemas[key].names
    for file in recording._files(key):
        try:
            names = pq.read_schema(file).names
        except (pa.ArrowInvalid, OSError) as why:
            raise UsageError("cannot be read", where=file, found=str(why), hint="record again") from None
        for name in wanted:
            if name not in names:
                raise UsageError("missing column", where=file, found=", ".join(names), expected=name,
                                 hint="record again with this version")  # fmt: skip


def build_map(spec: RigSpec, notes: list[str], weights: Path | None = None) -> tuple[FaceMap, str]:
    """The map from positions to landmarks of a rig, and which skin is in it: fast; linear where none is."""
    from facetwin.twin.calibration.face_map import (
        FaceMap,
        LinearMap,
        linear_table,
        material_tables,
        skin_points,
    )
    from facetwin.twin.face import load_face
    from facetwin.twin.kinematics import Kinematics
    from facetwin.twin.skin.fast import FastSkin
    from facetwin.twin.skin.fast_features import Features

    face = load_face()
    kinematics = Kinematics(spec, face)
    features, at = Features(spec), skin_points()
    skin: Callable[..., Any]
    try:
        fast = FastSkin.load(spec, face, path=weights, kinematics=kinematics).only(at)
        skin, kind = (lambda positions: fast(positions).vertices), "fast"
    except FaceTwinError as why:
        if weights is not None:
            raise
        notes.append(f"linear skin: {why}")
        table = linear_table(spec, face, kinematics, features, at)
        skin, kind = LinearMap(features, table, face.rest[at]), "linear"
    material = material_tables(spec, face, kinematics, features)
    return FaceMap(spec, face, skin, features=features, material=material), kind


def _trims(spec: RigSpec, all_of_them: bool) -> NDArray[np.bool_]:
    """Trims that stay as the film at rest has them, bool [shape=(n, 8)]: those of the neck at least, or
    camera and neck would trade what only both together show."""
    out = np.zeros((spec.size, len(NAMES)), bool)
    out[spec.group("neck"), TRIM] = True
    out[:, TRIM] |= all_of_them
    return out


def _set(values: Values, spec: RigSpec, rig: RigSpec) -> None:
    # Trims, scales and material of another rig.
    for i, (old, new) in enumerate(zip(spec.motors, rig.motors)):
        values.z[i, TRIM], values.z[i, SCALE] = new.trim - old.trim, new.scale - old.scale
    values.material[:] = [
        np.log(getattr(rig.material, key) / getattr(spec.material, key))
        for key in MATERIAL[: len(values.material)]
    ]


def _size(recording: Recording) -> int:
    image = next(iter(recording.pictures()), None)
    return 256 if image is None else int(image.shape[0])


def _changes(fitter: Fitter, fit: Fit, seen_by: Look) -> dict[str, float]:
    out = fitter.scale.changes(fit.values, fit.fitted)
    if seen_by.alike:  # also where the landmarks show nothing of it
        out |= {f"motor.{m.name}.trim": m.trim for m in seen_by.rig.motors}
    return out | {f"camera.mirror.{k}": v for k, v in seen_by.changes.items()}


def _by_film(
    fitter: Fitter, fit: Fit, seen_by: Look, changes: dict[str, float], recording: Recording, rounds: int
) -> tuple[dict[str, float], Look]:
    """Hold the calibrated twin against the film, pixel by pixel: horns, skin and camera once more."""
    from facetwin.cli.calibration_film import PICTURES, fit_film

    spec = fitter.spec
    chosen = _spread(fitter.data, PICTURES)
    found, known, off = fit_film(recording, fitter.data, spec, spec.with_(changes), chosen, rounds)
    changes = changes | found
    _set(fit.values, spec, spec.with_(changes))
    for i, name in enumerate(spec.names):
        for what, column in (("trim", TRIM), ("scale", SCALE)):
            fit.known[i, column] = known[f"motor.{name}.{what}"]
            fit.fitted[i, column] |= f"motor.{name}.{what}" in found
    camera = {k.removeprefix("camera.mirror."): v for k, v in found.items() if k.startswith("camera")}
    for k, note in enumerate(fit.notes):
        if f"motor.{note.split(':')[0]}.trim" in found:
            fit.notes[k] = note.replace(": left alone,", ": left alone but for what the film shows of it,")
    told = {**seen_by.told, "film": {"pictures": len(chosen), "off": off, "left_of_prior": known}}
    return changes, replace(seen_by, changes={**seen_by.changes, **camera}, told=told)


def _refine(
    fitter: Fitter, fit: Fit, seen_by: Look, recording: Recording, size: int, options: RigCalibrate
) -> tuple[Fit, Look]:
    """Play the calibrated twin, look at it as the rig was looked at, and fit what is still different.

    A tracker errs alike on poses that are alike: what it made of the rig is held against what it makes of
    the twin in almost the same pose, and the map gives the slope only.
    """
    from facetwin.cli.replay import replay, rest_pixels
    from facetwin.twin.calibration.fit import Fitter
    from facetwin.twin.landmarks import fit_unit
    from facetwin.twin.tracker import Tracker

    spec, data, face_map = fitter.spec, fitter.data, fitter.map
    now = spec.with_(_changes(fitter, fit, seen_by))
    seen_by = look(spec, now, recording, data, size, [], alike=False)
    now = seen_by.rig
    chosen = _spread(data, options.replay)
    shifted = replace(data, picture_time=data.picture_time - fit.values.clock)
    with Tracker(looks=LOOKS) as tracker, Progress("replaying the fit", total=len(chosen)) as bar:
        own, _ = rest_pixels(now, tracker, size=size)
        seen = replay(now, shifted, chosen, tracker, size=size, unit=fit_unit(own[None]), tell=bar.advance)
    train = np.zeros(len(data.picture_time), bool)
    train[seen.number] = True
    shown = face_map.target(seen.landmarks, seen.turn)
    correction = shown - fitter.predict(fit.values, data.picture_time[seen.number])
    again = Fitter(
        spec, data, face_map, same_face=not options.other_face, train=train, correction=correction,
        fixed=_trims(spec, all_of_them=False),
    )  # fmt: skip
    return again.fit(rounds=2, steps=4, begin=fit.values), seen_by


def _spread(data: Observed, count: int) -> NDArray[np.intp]:
    # So many of the pictures to fit, evenly.
    train = np.flatnonzero(data.split()[0])
    return train[np.unique(np.linspace(0, len(train) - 1, min(count, len(train))).round().astype(int))]


def _learn(face_map: FaceMap, seen_by: RigSpec, spec: RigSpec, data: Observed, count: int, size: int) -> None:
    """Play the twin, with the camera that was found, at some of the pictures, and learn the tracker."""
    from facetwin.cli.replay import replay, rest_pixels
    from facetwin.twin.landmarks import fit_unit
    from facetwin.twin.tracker import Tracker

    chosen = _spread(data, count)
    with Tracker(looks=LOOKS) as tracker, Progress("replaying the twin", total=len(chosen)) as bar:
        own, _ = rest_pixels(seen_by, tracker, size=size)
        seen = replay(seen_by, data, chosen, tracker, size=size, unit=fit_unit(own[None]), tell=bar.advance)
    if len(seen.number) < 40:
        raise FaceTwinError("the tracker does not see the simulated face", where=spec.name,
                            found=f"{len(seen.number)} of {len(chosen)} pictures")  # fmt: skip
    face_map.learn(seen.positions, seen.landmarks, seen.turn)


def known(fitter: Fitter, fit: Fit) -> dict[str, Any]:
    """Share of the prior's spread that is left of each kind of parameter: median over the motors."""
    out: dict[str, Any] = {}
    for k, name in enumerate(NAMES):
        free = fit.fitted[:, k]
        if free.any():
            out[name] = float(np.median(fit.known[free, k]))
    out.update({f"material.{k}": float(v) for k, v in zip(MATERIAL, fit.material_known)})
    out["camera.mirror.delay"] = fit.clock_known
    return out


def _liveliest(data: Observed, numbers: NDArray[np.intp], spec: RigSpec) -> NDArray[np.intp]:
    # Some of the pictures in which the face is far from rest.
    rows = np.clip(np.searchsorted(data.time, data.picture_time[numbers]), 0, len(data.time) - 1)
    away = np.abs(data.sent[rows] - spec.rest).sum(1)
    best = np.sort(numbers[np.argsort(away)[-max(SHOWN, len(numbers) // 3) :]])
    out: NDArray[np.intp] = best[np.linspace(0, len(best) - 1, min(SHOWN, len(best))).round().astype(int)]
    return out


def _closed(
    spec: RigSpec,
    calibrated: RigSpec,
    fitter: Fitter,
    recording: Recording,
    options: RigCalibrate,
    size: int,
) -> tuple[dict[str, Any], list[list[NDArray[np.uint8]]]]:
    """Both rigs played again at held-out pictures: what the tracker sees of them, against the recording.

    And some of the pictures: of the film, of the twin before, and after.
    """
    from facetwin.cli.replay import replay, rest_pixels
    from facetwin.twin.calibration.scores import distances
    from facetwin.twin.landmarks import fit_unit, indices
    from facetwin.twin.tracker import Tracker

    data, face_map = fitter.data, fitter.map
    held = np.flatnonzero(data.split()[1])
    chosen = held[np.unique(np.linspace(0, len(held) - 1, min(options.check, len(held))).round().astype(int))]
    out: dict[str, Any] = {"pictures": 0}
    kept = _liveliest(data, chosen, fitter.spec)
    strip = [[image for k, image in enumerate(recording.pictures()) if k in kept]]
    lips = np.isin(face_map.points, indices("lips40"))
    with Tracker(looks=LOOKS) as tracker, Progress("checking", total=2 * len(chosen)) as bar:
        for name, rig in (("before", spec), ("after", calibrated)):
            own, _ = rest_pixels(rig, tracker, size=size)
            clock = rig.cameras["mirror"].delay - spec.cameras["mirror"].delay
            shifted = replace(data, picture_time=data.picture_time - clock)
            seen = replay(
                rig, shifted, chosen, tracker, size=size, unit=fit_unit(own[None]), tell=bar.advance,
                keep=kept,
            )  # fmt: skip
            strip.append([seen.pictures[k] for k in kept if k in seen.pictures])
            left = face_map.target(data.landmarks[seen.number], data.turn[seen.number]) - face_map.target(
                seen.landmarks, seen.turn
            )
            d = distances(face_map, left)
            out["pictures"] = len(d)
            out[f"{name}_u"], out[f"{name}_mm"] = (
                float(d.mean()),
                float(d.mean() * 1e3 * face_map.metres_per_u),
            )
            out[f"{name}_lips_u"] = float(d[:, lips].mean())
            out[f"{name}_turn_rad"] = float(np.linalg.norm(left[:, -3:], axis=1).mean())
    out["ratio"] = out["after_u"] / out["before_u"]
    out["ratio_lips"] = out["after_lips_u"] / out["before_lips_u"]
    return out, strip
