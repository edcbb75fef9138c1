"""`facetwin rig compare`: how far a rig and its twin are apart (docs/compare.md).

One program on both → motors, landmarks → controllers of different quality on both → report; and, if asked,
calibration from the same recording and the comparison with the calibrated twin.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from facetwin.twin.errors import UsageError

if TYPE_CHECKING:
    from facetwin.cli.compare_controllers import Contest
    from facetwin.cli.compare_record import Played
    from facetwin.cli.watcher import Watcher
    from facetwin.hardware.rig import Rig
    from facetwin.twin.calibration.compare import Comparison
    from facetwin.twin.calibration.probes import Program
    from facetwin.twin.calibration.sides import Side
    from facetwin.twin.spec import RigSpec


#: turns where only the mirror tells, and at most
TURNS, MOST = 2, 10


@dataclass(frozen=True)
class RigCompare:
    """Play the same motions on a rig and on its twin, and say how far they are apart.

    Steps, slow ramps and chirps of every motor, an expression clip, then controllers of different quality:
    latency, gain, dead band and play of each motor, distance of landmarks, agreement in rank.
    """

    rig: tyro.conf.Positional[str] = "sim:"
    """Rig: emulated:maestro, a face file, dynamixel:/dev/ttyUSB0?camera=webcam:0, …"""
    twin: str = "sim:"
    """Twin; sim: is the simulated rig of the same table."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("out/compared")
    """Folder for recordings and report."""
    motors: tuple[str, ...] = ()
    """Only these motors have a turn; default: all."""
    turns: int = 0
    """How often motors have their turns on the rig: latencies that only the mirror tells are averaged over
    them. 0: once where servos say where they stand, else twice."""
    controllers: bool = True
    """Play speech controllers too, and compare their ranks."""
    sound: Path | None = None
    """What the controllers say; default: the sample that ships."""
    seconds: float = 6.0
    """How much of it."""
    calibrate: bool = False
    """Fit the table to the rig's recording and compare again with the calibrated twin."""
    fps: float = 25.0
    """Pictures a second at most."""
    size: int = 256
    """Side of the pictures, px (of simulated and emulated rigs)."""
    may_move: bool = False
    """Needed for a rig that something can happen to: yes, it may move now."""
    seed: int = 0
    """Of everything random."""
    json: bool = False
    """Print one JSON object."""


def run(options: RigCompare) -> int:
    """Play, compare, report; exit code 0, or an error."""
    os.environ.setdefault("LP_NUM_THREADS", str(min(2, os.cpu_count() or 1)))
    from facetwin.assets import path as asset
    from facetwin.cli.compare_controllers import prepare
    from facetwin.cli.compare_report import print_result, write_report
    from facetwin.cli.watcher import Watcher
    from facetwin.hardware.names import make_rig
    from facetwin.hardware.safety import SafetyLayer
    from facetwin.twin.calibration.excitation import BABBLE
    from facetwin.twin.calibration.probes import program

    _check(options)
    rig = SafetyLayer(make_rig(options.rig, **sized(options.rig, options.size)))
    check_able(rig, options.rig, options.may_move)
    twin = _twin(options, rig.spec, rig.capabilities.camera)
    played = program(rig.spec, options.motors, babble=BABBLE if options.calibrate else 0.0, seed=options.seed)
    notes: list[str] = []
    contest: Contest | None = None
    if options.controllers and rig.capabilities.camera is not None:
        try:
            sound = options.sound or asset("speech", "sample.wav")
            contest = prepare(rig.spec, sound, options.seconds, seed=options.seed)
        except UsageError as why:
            if options.sound is not None:
                raise
            notes.append(f"controllers: {why}")
    options.out.mkdir(parents=True, exist_ok=True)
    for folder in (options.out / "twin", options.out / "calibrated twin", *options.out.glob("rig*")):
        _clear(folder)
    real, look = not rig.capabilities.simulated, rig.capabilities.camera is not None
    with Watcher(gentle=real) as watcher:
        folder = options.out / "rig"
        on_rig, rig_seen, again = _play(
            rig, watcher, played, contest, options, folder, options.rig, turns=True
        )
    with Watcher() as watcher:
        folder = options.out / "twin"
        on_twin, twin_seen, _ = _play(twin, watcher, played, contest, options, folder, "twin", look=look)
        first = _compare(on_twin, on_rig, played, contest, twin_seen, rig_seen, again)
        second, calibration = None, None
        if options.calibrate:
            calibration, body = _calibrate(options, rig.spec)
            folder = options.out / "calibrated twin"
            calibrated, seen, _ = _play(
                twin, watcher, played, contest, options, folder, "calibrated twin", body
            )
            second = _compare(calibrated, on_rig, played, contest, seen, rig_seen, again)
    result: dict[str, Any] = {
        "rig": options.rig, "twin": options.twin, "table": f"{rig.spec.name} {rig.spec.hash[:12]}",
        "seconds": played.seconds, "seed": options.seed, "unit": "u, distance of the outer eye corners",
        "pictures": {"rig": len(on_rig.side.data.picture_time), "twin": len(on_twin.side.data.picture_time)},
        "turns": 1 + len(again), "measures": on_rig.side.measures, "kept_time": str(on_rig.paced),
        "missed_deadlines": on_rig.paced.share_missed, "notes": [*notes, *first[0].notes],
        "compared": plain(first), "calibrated": None if second is None else plain(second),
        "calibration": calibration,
    }  # fmt: skip
    result["files"] = write_report(options.out, result, first, second, on_twin, on_rig, played)
    if options.json:
        print(json.dumps(result, allow_nan=False))
    else:
        print_result(result)
    return 0


def sized(name: str, size: int) -> dict[str, Any]:
    """The picture's size as an option, for kinds of rigs that let it be chosen and whose name does not."""
    import inspect

    from facetwin.hardware.names import load_driver, parse_name

    scheme, _, given = parse_name(name)
    try:
        takes = inspect.signature(load_driver(scheme)).parameters
    except (TypeError, ValueError):
        return {}
    return {"size": size} if "size" in takes and "size" not in given else {}


def check_able(rig: Rig, name: str, may_move: bool) -> None:
    """Raise a `UsageError` where nothing would show what a rig does, or it may not be moved."""
    able = rig.capabilities
    if able.camera is None and not able.measures:
        raise UsageError("nothing would show what this rig does", where=name,
                         found="no camera, and servos that do not say where they stand",
                         hint="add a camera: NAME?camera=webcam:0")  # fmt: skip
    if not (able.harmless or may_move):
        raise UsageError("this moves the rig", where=name, hint="clear the space around it, then --may-move")


def _check(options: RigCompare) -> None:
    if not 1.0 <= options.fps <= 100.0:
        raise UsageError("no such rate", where="--fps", found=options.fps, expected="1 to 100")
    if not 64 <= options.size <= 2160:
        raise UsageError("no such size", where="--size", found=options.size, expected="64 to 2160 px")
    if not 0 <= options.turns <= MOST:
        raise UsageError("no such number", where="--turns", found=options.turns, expected=f"0 to {MOST}")
    if not 2.0 <= options.seconds <= 60.0:
        raise UsageError("no such length", where="--seconds", found=options.seconds, expected="2 to 60 s")
    if options.out.exists() and not options.out.is_dir():
        raise UsageError("is a file", where=options.out, expected="a folder", hint="another --out")


def _clear(folder: Path) -> None:
    # recordings of an earlier comparison in the same folder
    import shutil

    if (folder / "meta.json").exists():
        shutil.rmtree(folder)


def _twin(options: RigCompare, spec: RigSpec, camera: tuple[int, int, int] | None) -> Any:
    from facetwin.hardware.names import make_rig
    from facetwin.hardware.safety import SafetyLayer
    from facetwin.hardware.sim import SimRig

    size = None if camera is None else (camera[1], camera[0])
    if options.twin == "sim:":
        return SafetyLayer(SimRig(spec, size=size, seed=options.seed, tick=0.001))
    twin = SafetyLayer(make_rig(options.twin, **sized(options.twin, options.size)))
    if twin.spec.names != spec.names:
        raise UsageError("a twin with other motors", where="--twin", found=options.twin,
                         expected=f"the {spec.size} motors of {spec.name}")  # fmt: skip
    if options.calibrate and camera is None:
        raise UsageError("calibration needs pictures", where=options.rig, hint="a camera")
    if options.calibrate and not isinstance(twin.inner, SimRig):
        raise UsageError("only a simulated twin can be calibrated", where="--twin", found=options.twin)
    return twin


def _play(
    rig: Any,
    watcher: Watcher,
    played: Program,
    contest: Contest | None,
    options: RigCompare,
    folder: Path,
    name: str,
    body: RigSpec | None = None,
    look: bool = True,
    turns: bool = False,
) -> tuple[Played, Any, list[Side]]:
    """Play the program and the controllers; with ``turns`` the motors' turns again, as often as asked."""
    from dataclasses import replace

    from facetwin.cli.compare_controllers import play_contest
    from facetwin.cli.compare_record import play_program, save_side

    if body is not None:
        rig.inner.become(body)
    with rig:
        rig.activate()
        rig.home(options.seed)
        played_now = play_program(
            rig, watcher, played, folder, fps=options.fps, name=name, seed=options.seed, look=look
        )
        save_side(played_now, played, folder)
        seen = None
        if contest is not None:
            seen = play_contest(rig, watcher, contest, name=name, seed=options.seed)
        again = _more(rig, watcher, options, folder, played_now.side.measures) if turns else []
        rig.hold()
    if body is not None:  # its motors stand where that table says
        played_now = replace(played_now, side=replace(played_now.side, spec=body))
    return played_now, seen, again


def _more(rig: Any, watcher: Watcher, options: RigCompare, folder: Path, measures: bool) -> list[Side]:
    """More recordings of the motors' turns, without clip and controllers."""
    from facetwin.cli.compare_record import play_program
    from facetwin.twin.calibration.probes import program

    count = options.turns or (1 if measures else TURNS)
    if rig.capabilities.camera is None:
        return []  # sensors need no second look
    turns, out = program(rig.spec, options.motors, clip=False), []
    for k in range(2, count + 1):
        place, name = folder.with_name(f"{folder.name}-{k}"), f"{options.rig}, turns {k} of {count}"
        out.append(play_program(rig, watcher, turns, place, fps=options.fps, name=name).side)
    return out


def _compare(
    twin: Played,
    rig: Played,
    played: Program,
    contest: Contest | None,
    twin_seen: Any,
    rig_seen: Any,
    again: list[Side],
) -> tuple[Comparison, dict[str, Any] | None]:
    from facetwin.cli.compare_controllers import agreement, scores
    from facetwin.twin.calibration.compare import compare

    ranks = None
    if contest is not None:
        ranks = agreement(scores(contest, twin_seen), scores(contest, rig_seen))
    return compare(twin.side, rig.side, played, again), ranks


def _calibrate(options: RigCompare, spec: RigSpec) -> tuple[dict[str, Any], RigSpec]:
    """Calibrate from the rig's recording, by `facetwin rig calibrate`; its result, and the table."""
    from facetwin.cli import rig_calibrate
    from facetwin.twin.spec import load_rig

    table = str(spec.source) if Path(str(spec.source)).is_file() else spec.name
    asked = rig_calibrate.RigCalibrate(options.out / "rig", table, out=options.out / "calibrated", json=True)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        rig_calibrate.run(asked)
    result = json.loads(said.getvalue())
    keep = ("rig", "changed", "scores", "closed", "self_model", "notes", "cpu_s")
    return {key: result[key] for key in keep if key in result}, load_rig(result["rig"])


def plain(compared: tuple[Comparison, dict[str, Any] | None]) -> dict[str, Any]:
    """A comparison as plain dicts, None where something is not known."""
    import numpy as np

    from facetwin.twin.calibration.traces import NAMES

    comparison, ranks = compared

    def known(x: float | None) -> float | None:
        return None if x is None or not np.isfinite(x) else round(float(x), 6)

    def fit(f: Any) -> dict[str, Any] | None:
        if f is None:
            return None
        out = {
            name: {"value": known(v), "sd": known(s)}
            for name, v, s in zip(NAMES, f.values, f.spread)
            if np.isfinite(s)
        }
        return {**out, "gain": known(f.gain), "residual": known(f.residual)}

    return {
        "motors": {
            m.name: {
                "by": m.by, "sensor": fit(m.sensor), "mirror": fit(m.mirror), "twin": fit(m.twin_best),
                "delay_s": known(m.delay), "gain": known(m.gain), "face_gain": known(m.face_gain),
                "residual": known(m.residual),
                "unaligned": known(m.raw), "clear": known(m.clear), "note": m.note,
            }
            for m in comparison.motors
        },
        "groups": {
            g.name: {"distance_u": known(g.raw), "aligned_u": known(g.aligned), "scatter_u": known(g.scatter),
                     "motion_u": known(g.motion)}
            for g in comparison.groups
        },
        "camera_s": known(comparison.camera), "camera_sd_s": known(comparison.camera_spread),
        "delay_s": known(comparison.delay), "ranks": ranks,
    }  # fmt: skip
