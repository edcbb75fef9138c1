"""What was spoken, judged: scores of a take, its report, and the log beside the video."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facetwin.cli.tables import plain, report_tables

if TYPE_CHECKING:
    from facetwin.cli.report import Table
    from facetwin.cli.speak import Speak
    from facetwin.cli.take import Take

#: options of what is shown beside the mouth
BESIDE = ("blinks", "gaze", "head", "brows")


@dataclass(frozen=True)
class Said:
    """What is spoken: the sound's file, where it came from, and what is known of its contents."""

    sound: Path
    name: str
    info: Any  # AudioInfo
    onsets: Any  # Onsets
    events: tuple[Any, ...] = ()  # report.Event
    text: str = ""
    language: str = ""


@dataclass(frozen=True)
class Person:
    """The person of a reference video at 25 fps: displacement (T, 63, 2) from rest in u, and where seen."""

    displacement: NDArray[np.float32]
    seen: NDArray[np.bool_]
    name: str


def speech_weights(options: Speak) -> Path:
    """The weights file that a run speaks by: the one it names, or a shipped one."""
    from facetwin.policies.speech import SpeechModel

    talkers = options.talkers if options.lookahead == 80 else "one"
    talkers = "offline" if options.offline else talkers
    return options.weights or SpeechModel.shipped(options.lookahead, talkers)


def judge(
    options: Speak,
    said: Said,
    folder: Path,
    rig: Any,
    model: Any,
    person: Person | None,
    take: Take,
    played: float,
    startup: float,
) -> dict[str, Any]:
    """Score the take and write report and log."""
    from facetwin.cli.perform import CONTROL_RATE, FPS
    from facetwin.cli.report import Moment, Report, choose_moments, write_report
    from facetwin.policies.closed_loop import closed_table, loudness
    from facetwin.policies.scores import clipped
    from facetwin.twin.landmarks import indices, opening, width

    frames, seen = len(take), take.seen()
    target = np.concatenate(take.target)[:frames]
    wanted, trusted = target, np.ones(frames, bool)
    if person is not None:
        wanted, trusted = np.zeros_like(target), np.zeros(frames, bool)
        n = min(frames, len(person.displacement))
        wanted[:n], trusted[:n] = person.displacement[:n], person.seen[:n]
    loud = loudness(np.concatenate(take.energy))[:frames]
    table = closed_table(
        [seen], [wanted], [said.onsets], trusted=[trusted], loudness=[loud],
        target=None if person is None else [target],
    )  # fmt: skip

    lips = list(indices("speech63"))
    up, low = lips.index(13), lips.index(14)
    rest_opening = float(opening(seen.rest))
    wanted_opening = wanted[:, up, 1] - wanted[:, low, 1] + rest_opening
    seen_opening = np.concatenate([opening(seen.faces(slice(k, k + 1000))) for k in range(0, frames, 1000)])
    seen_width = np.concatenate([width(seen.faces(slice(k, k + 1000))) for k in range(0, frames, 1000)])
    shown = np.where(seen.found, seen_opening, np.nan)
    asked, sent = np.stack(take.asked), np.stack(take.sent)
    reference = f"the person in {person.name}" if person else "the speech model's own target"
    picked = choose_moments(shown, wanted_opening, seen_width, FPS, said.events)
    images = _pictures(folder / "face.mp4", [frame for frame, _ in picked], FPS)
    lost = frames - int(np.sum(take.found))
    cut = cut_by_reach(take, frames)
    info, length = said.info, max(said.info.duration, 1e-9)
    changed = (np.abs(asked - sent) > 0.005).any(1).mean()
    weights = speech_weights(options).stem
    facts = {
        "said": said.text or said.name,
        "sound": f"{said.name}, {info.duration:.2f} s, {info.rate} Hz, {info.channels} channel(s)",
        "rig": f"{options.rig}, {rig.spec.name}, table {rig.spec.hash[:12]}",
        "reference": reference,
        "unit": "u, distance of the outer eye corners after similarity alignment",
        "speech model": f"{weights}, {model.shape.lookahead} ms look-ahead; {model.sidecar.get('data')}",
        "seed": str(options.seed),
        "pictures": f"{frames} at {FPS} fps, face lost in {lost}",
        "commands on a limit": f"{clipped(sent):.1%}",
        "cut by the robot's reach": f"{cut['lips']['mean']:.4f} u of the lips, on average",
        "beside the mouth": ", ".join(n for n in BESIDE if getattr(options, n)) or "nothing",
        "writes changed by the safety layer": f"{changed:.1%}",
        "time": f"{played:.1f} s, {played / length:.2f} x the sound, after {startup:.1f} s start-up",
        "version": f"facetwin {metadata.version('facetwin')}, Python {platform.python_version()}",
    }
    write_report(
        folder / "report.html",
        Report(
            title=f"facetwin speak: {said.name}",
            said=said.text,
            fps=FPS,
            seen=shown,
            reference=wanted_opening,
            reference_name=reference,
            motors=rig.spec.names,
            groups=tuple(m.group for m in rig.spec.motors),
            asked=asked,
            sent=sent,
            rate=CONTROL_RATE,
            gap=seen.gap,
            events=said.events,
            tables=[
                *report_tables(table, f"Against {reference}, seed {options.seed}. "),
                _cut_table(cut),
            ],
            moments=[Moment(frame / FPS, caption, image) for (frame, caption), image in zip(picked, images)],
            facts=list(facts.items()),
            notes=[*said.info.notes, *([f"the tracker lost the face in {lost} pictures"] if lost else [])],
            video=folder / "face.mp4",
        ),
    )
    scores = plain(table)
    log = {
        "synthetic": True,
        **facts,
        "sha256": _sha256(said.sound),
        "language": said.language,
        "phonemes": [[e.label, round(e.start, 4), round(e.end, 4)] for e in said.events],
        "scores": scores,
        "cut_by_reach_u": cut,
        "units": {name: s.unit for name, s in table["seen in the mirror"].items()},
    }
    (folder / "said.json").write_text(json.dumps(log, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return {
        "frames": frames,
        "seconds": round(said.info.duration, 3),
        "face_lost": lost,
        "worst_picture_ms": round(take.late * 1000, 2),
        "times_realtime": round(played / max(said.info.duration, 1e-9), 3),
        "startup_s": round(startup, 2),
        "reference": reference,
        "scores": scores,
    }


def cut_by_reach(take: Take, frames: int) -> dict[str, dict[str, float]]:
    """What the robot cannot do of what was asked, u: mean and p95 by part of the mouth (equation (1))."""
    out = {}
    for part in take.lost[0] if take.lost else ():
        values = np.concatenate([piece[part] for piece in take.lost])[:frames]
        if part in ("opening", "width"):
            values = np.abs(values)
        out[part] = {
            "mean": round(float(values.mean()), 5),
            "p95": round(float(np.quantile(values, 0.95)), 5),
        }
    return out


def _cut_table(cut: dict[str, dict[str, float]]) -> Table:
    from facetwin.cli.report import Table

    return Table(
        "What the robot's reach cuts",
        ("mean, u", "p95, u"),
        tuple((part, (row["mean"], row["p95"])) for part, row in cut.items()),
        ("low", "low"),
        "The wish, equation (1): the speech model's motion on the robot's face. What became of it: the "
        "nearest face that jaw and lips can show, by the self-model. Lips, corners and jaw: mean distance of "
        "their points; opening and width: how much of it is missing.",
    )


def marked(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture with a small "synthetic" in its lower left corner."""
    import cv2

    out = np.ascontiguousarray(image).copy()
    height = out.shape[0]
    scale, edge = height / 1100, round(height / 60)
    for colour, thick in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(
            out,
            "synthetic",
            (edge, height - edge),
            cv2.FONT_HERSHEY_SIMPLEX,
            scale,
            colour,
            thick,
            cv2.LINE_AA,
        )
    return out


def _pictures(film: Path, frames: list[int], fps: float) -> list[NDArray[np.uint8]]:
    """Some pictures of a video whose first picture is at time zero, each found from the key frame before."""
    import av

    found: list[NDArray[np.uint8]] = []
    with av.open(str(film)) as container:
        track = container.streams.video[0]
        for number in frames:
            due = round(number / fps / track.time_base)  # in the track's own ticks
            container.seek(due, stream=track)
            for frame in container.decode(track):
                if frame.pts >= due:
                    found.append(frame.to_ndarray(format="rgb24"))
                    break
    return found


def _sha256(path: Path) -> str:
    import hashlib

    with path.open("rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()
