"""``facetwin speak``: speech or text in, a talking robot face out, looked at and scored.

sound → speech model → controller → safety layer → rig → mirror → tracker → scores, in pieces of ten
seconds, so that an hour needs no more memory than a minute but for its landmarks.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray

from facetwin.cli.progress import Progress
from facetwin.cli.spoken import Person, Said, judge, marked, speech_weights
from facetwin.cli.tables import print_scores
from facetwin.twin.errors import FaceTwinError, UsageError

if TYPE_CHECKING:
    from facetwin.cli.take import Take

PIECE = 10.0  #: s of sound at a time
PRODUCTS = ("face.mp4", "report.html", "said.json", "said.wav", "recording")


@dataclass
class Speak:
    """Make the robot face say a recording or a text; leaves video, report and recording in a folder.

    FILE is anything that ffmpeg reads: wav, mp3, flac, m4a, the sound of a video; any rate, mono or
    stereo, a second or an hour.
    """

    file: tyro.conf.Positional[Path | None] = None
    """Recording to speak."""
    text: str | None = None
    """Text to say instead, in the voice of espeak-ng."""
    language: str = "en-us"
    """Language or voice of --text: en-us, fr, de, cmn, …"""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Folder for the results; default: out/ and the name of the recording."""
    rig: str = "sim:"
    """Rig that speaks: sim:, sim:emo23, a rig file; facetwin rig list shows them."""
    reference: Path | None = None
    """Video of a person saying the same: scores are against that person, not the model's own target."""
    align: Path | None = None
    """Word alignment of the recording (GRID's format), for the closure scores."""
    lookahead: int = 80
    """Sound known ahead of a picture, ms: 0, 40 or 80."""
    talkers: str = "many"
    """Whom the speech model heard: many (a person and 4,000 synthetic talkers; 80 ms only, else one) or one
    (GRID's talker s1, whom it knows best)."""
    offline: bool = False
    """Hear the whole recording (30 s at a time) before its lips are planned: a little nearer, never live."""
    weights: Path | None = None
    """Other weights of the speech model."""
    size: int = 480
    """Side of the pictures, px (of a simulated rig)."""
    mark: bool = True
    """Write a small "synthetic" into the video."""
    may_move: bool = False
    """Needed for a rig that something can happen to: yes, it may move now."""
    blinks: bool = True
    """Blink, as people do."""
    gaze: bool = True
    """Look about: fixations, saccades, a glance aside."""
    head: bool = True
    """Move the head slowly, and with the melody of speech."""
    brows: bool = True
    """Lift the brows a little at stressed syllables."""
    allow_silence: bool = False
    """Accept a recording in which nothing is to be heard."""
    seed: int = 0
    """Of everything random: camera noise, blinks, gaze, head."""
    json: bool = False
    """Print one JSON object."""


def run(options: Speak) -> int:
    """Speak, and print where the results are and what they scored."""
    started = time.monotonic()
    _check(options)
    out = options.out or Path("out") / (options.file.stem if options.file else "speech")
    with ExitStack() as stack:
        part = stack.enter_context(Workshop(out))
        said = _said(options, part.folder)
        for note in said.info.notes:
            print(f"facetwin: {said.name}: {note}", file=sys.stderr)
        result = _perform(options, said, part.folder, stack, started)
        part.deliver()
    result["out"] = str(out)
    result["files"] = [str(out / name) for name in PRODUCTS if (out / name).exists()]
    if options.json:
        print(json.dumps(result, ensure_ascii=False))
    else:
        _print(result)
    return 0


class Workshop:
    """A folder ``OUT.part`` to work in; `deliver` moves what is whole to ``OUT``, failure leaves nothing."""

    def __init__(self, out: Path) -> None:
        if out.exists() and not out.is_dir():
            raise UsageError(
                "is a file", where=out, expected="a folder for the results", hint="another --out"
            )
        self.out = out
        self.folder = out.with_name(out.name + ".part")

    def __enter__(self) -> Workshop:
        try:
            if self.folder.exists():  # of a run that was killed
                shutil.rmtree(self.folder)
            self.folder.mkdir(parents=True)
        except OSError as error:
            raise UsageError(
                "cannot write there", where=self.out, found=error.strerror or error, hint="another --out"
            ) from None
        return self

    def deliver(self) -> None:
        """Give the results their final names; files of ours that were there before are replaced."""
        self.out.mkdir(exist_ok=True)
        for name in PRODUCTS:
            new, old = self.folder / name, self.out / name
            if old.is_dir():
                shutil.rmtree(old)
            elif old.exists():
                old.unlink()
            if new.exists():
                new.rename(old)

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _check(options: Speak) -> None:
    if options.file is not None and options.text is not None:
        raise UsageError("a recording and a text", where="speak", hint="give FILE or --text, not both")
    if options.file is None and options.text is None:
        raise UsageError("nothing to say", where="speak", hint='facetwin speak FILE, or --text "Hello"')
    if not 64 <= options.size <= 2160:
        raise UsageError("no such size", where="--size", found=options.size, expected="64 to 2160 px")
    if options.seed < 0:
        raise UsageError("bad seed", where="--seed", found=options.seed, expected="a whole number from 0")
    if options.lookahead not in (0, 40, 80) and options.weights is None:
        raise UsageError(
            "no such look-ahead", where="--lookahead", found=options.lookahead, expected="0, 40, 80"
        )
    if options.offline and (options.lookahead, options.talkers) != (80, "many"):
        raise UsageError("one model hears whole recordings", where="--offline",
                         found=f"--lookahead {options.lookahead} --talkers {options.talkers}",
                         expected="neither of them")  # fmt: skip
    if options.talkers not in ("one", "many"):
        raise UsageError("no such talkers", where="--talkers", found=options.talkers, expected="one or many")


def _said(options: Speak, folder: Path) -> Said:
    """The sound to speak, checked, and when its lips must shut, where that is known."""
    from facetwin.cli.report import Event
    from facetwin.policies import audio
    from facetwin.policies.alignment import BILABIAL_WORDS, Onsets, read_align, word_onsets
    from facetwin.policies.espeak import Phoneme, phoneme_onsets

    text, language = options.text or "", options.language if options.text else ""
    phonemes: tuple[Phoneme, ...] = ()
    if options.text is not None:
        import soundfile

        from facetwin.policies import espeak

        speech = espeak.speak(options.text, options.language)
        sound, name, phonemes = folder / "said.wav", "text", speech.phonemes
        soundfile.write(sound, speech.samples, espeak.RATE, subtype="PCM_16")
    else:
        sound = options.file  # type: ignore[assignment]
        name = sound.name
        text, language, phonemes = _sidecar(sound)
    info = audio.scan(sound)
    if info.silent and not options.allow_silence:
        raise FaceTwinError(
            "nothing to be heard", where=sound, found=f"peak {info.peak:.2g} of full scale",
            expected="more than 0.0001", hint="check the recording, or --allow-silence",
        )  # fmt: skip
    onsets = Onsets()
    events: tuple[Event, ...] = ()
    if options.align is not None:
        words = read_align(options.align)
        onsets = word_onsets(words)
        events = tuple(
            Event(w.start, w.end, w.text, closes=False) for w in words if w.text not in ("sil", "sp")
        ) + tuple(Event(w.start, w.start + 0.08, "", closes=True) for w in words if w.text in BILABIAL_WORDS)
    elif phonemes:
        onsets = phoneme_onsets(phonemes)
        shut = set(onsets.bilabial)
        events = tuple(Event(p.start, p.end, p.name, p.start in shut) for p in phonemes if p.name)
    return Said(sound, name, info, onsets, events, text, language)


def _sidecar(sound: Path) -> tuple[str, str, tuple[Any, ...]]:
    """Text, language and phonemes from ``NAME.json`` beside a recording, where there is one."""
    from facetwin.policies.espeak import Phoneme

    path = sound.with_suffix(".json")
    try:
        content = json.loads(path.read_text("utf-8"))
        rows = content["phonemes"]
        phonemes = tuple(
            Phoneme(str(r["name"]), float(r["start"]), float(r["end"]))
            if isinstance(r, dict)
            else Phoneme(str(r[0]), float(r[1]), float(r[2]))
            for r in rows
        )
        return str(content.get("text", "")), str(content.get("language", "")), phonemes
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return "", "", ()  # some other JSON: not ours to complain about


def _person(options: Speak, folder: Path) -> Person | None:
    if options.reference is None:
        return None
    from facetwin.policies.dataset import clip_path, read_clip, write_clip
    from facetwin.policies.speech_train import rest_face
    from facetwin.policies.tracking import LENIENT, track_clip
    from facetwin.twin.landmarks import indices, opening

    print(f"looking at the person in {options.reference}", file=sys.stderr)
    tracked = track_clip(options.reference, LENIENT)
    write_clip(folder / "person", tracked.clip, times=tracked.times, fps=tracked.fps)
    clip = read_clip(clip_path(folder / "person", tracked.clip.name))  # at 25 fps
    shutil.rmtree(folder / "person")
    ids = indices("speech63")
    try:
        rest = rest_face([clip])
    except FaceTwinError:  # never silent with shut lips: the pictures nearest to it
        openings = opening(clip.landmarks)
        nearest = clip.seen & (openings <= np.quantile(openings[clip.seen], 0.1))
        rest = np.median(clip.landmarks[nearest], axis=0)
    return Person(clip.landmarks[:, ids, :2] - rest[ids, :2], clip.seen, options.reference.name)


def _perform(options: Speak, said: Said, folder: Path, stack: ExitStack, started: float) -> dict[str, Any]:
    """Load everything, play, score, report; returns the result for the user."""
    # two cores draw faster than one, though the tracker wants its share of the second
    os.environ.setdefault("LP_NUM_THREADS", str(min(2, os.cpu_count() or 1)))
    import torch

    from facetwin.cli.live import Scribe, ahead, looker
    from facetwin.cli.perform import FPS, Shot
    from facetwin.cli.take import Take, play
    from facetwin.hardware.names import make_rig
    from facetwin.hardware.recording import RecordingWriter
    from facetwin.hardware.safety import SafetyLayer
    from facetwin.policies.controller import SpeechController
    from facetwin.policies.nonverbal import Alive, Nonverbal
    from facetwin.policies.speech import SpeechModel
    from facetwin.policies.video import VideoWriter

    torch.set_num_threads(1)  # the other core is the tracker's
    model = SpeechModel.load(speech_weights(options))
    rig = SafetyLayer(make_rig(options.rig, **simulated_options(options)))
    if not rig.capabilities.harmless:
        if not options.may_move:
            raise UsageError("this moves the rig", where=options.rig,
                             hint="clear the space around it, then --may-move")  # fmt: skip
        print(rig.describe(), file=sys.stderr)
    if rig.capabilities.camera is None:
        raise UsageError("this rig has no camera, so nothing can be seen or scored", where=options.rig)
    person = _person(options, folder)
    controller = SpeechController(rig.spec)
    watcher = looker(rig, stack)
    stack.enter_context(rig)
    height, width, _ = rig.capabilities.camera
    film = stack.enter_context(
        VideoWriter(
            folder / "face.mp4", FPS, (width, height), audio=said.sound, title=f"facetwin: {said.name}"
        )
    )
    recording = stack.enter_context(
        RecordingWriter(
            folder / "recording",
            rig.spec,
            fps=FPS,
            seed=options.seed,
            size=(width, height),
            meta={"said": said.text or said.name},
        )
    )
    scribe = stack.enter_context(Scribe())
    take = Take()
    alive = Alive(
        rig.spec, Nonverbal(options.blinks, options.gaze, options.head, options.brows, options.seed)
    )
    pieces = ahead(rig, _commands(model, controller, alive, said, take))
    rig.activate()
    rig.home(options.seed)
    began = 0.0  # when the first picture of the speech was there

    with Progress("speaking", total=said.info.duration, unit="s") as progress:

        def keep(shot: Shot) -> None:
            nonlocal began
            began = began or time.monotonic()
            if rig.clock.simulated:
                save(shot)
            else:
                scribe.do(save, shot)
            progress.update(shot.time)

        def save(shot: Shot) -> None:
            image = shot.frame.image
            for tick in shot.ticks:
                if tick.time >= 0:
                    recording.write(tick.time, tick.asked, tick.sent, tick.state)
            film.write(marked(image) if options.mark else image)
            recording.picture(shot.exposed, image, gap_mm=(shot.frame.truth or {}).get("gap_mm"))

        def learned(number: int, *seen: NDArray[np.float32] | None) -> None:
            if rig.clock.simulated:
                recording.landmarks(number, *seen)
            else:
                scribe.do(recording.landmarks, number, *seen)

        play(rig, watcher, pieces, take, shot=keep, seen=learned)
        scribe.finish()
    rig.hold()
    film.close()
    recording.close()
    played = time.monotonic() - began
    return judge(options, said, folder, rig, model, person, take, played, began - started)


def simulated_options(options: Any) -> dict[str, Any]:
    """`size` and `seed` of the options, for a simulated rig whose name does not say them already."""
    from facetwin.hardware.names import parse_name

    scheme, _, given = parse_name(options.rig)
    ours = {"size": options.size, "seed": options.seed} if scheme == "sim" else {}
    return {key: value for key, value in ours.items() if key not in given}


def _commands(
    model: Any, controller: Any, alive: Any, said: Said, take: Take
) -> Iterator[NDArray[np.floating]]:
    """Commands (k, n) at 25 a second, made as they are needed; `take` keeps target, loss and loudness."""
    from facetwin.policies import audio
    from facetwin.policies.speech import STEP

    def drive(displacement: NDArray[np.float32]) -> Iterator[NDArray[np.floating]]:
        if len(displacement):
            take.target.append(displacement)
            mouth = controller.commands(displacement)
            take.lost.append(controller.lost)
            yield alive.on(mouth)

    stepper = model.stream()
    for samples in audio.stream(said.sound, PIECE, info=said.info):
        padded = np.zeros(-(-len(samples) // STEP) * STEP)
        padded[: len(samples)] = samples
        take.energy.append((padded.reshape(-1, STEP) ** 2).sum(1))
        alive.push(samples)
        yield from drive(stepper.push(samples))
    alive.finish()
    yield from drive(stepper.finish())


def _print(result: dict[str, Any]) -> None:
    print_scores(result["scores"], f"{result['seconds']:.2f} s against {result['reference']}")
    lost = f", face lost in {result['face_lost']} of {result['frames']}" if result["face_lost"] else ""
    print(f"{result['times_realtime']:.2f} x the sound after {result['startup_s']:.1f} s{lost}")
    for file in result["files"]:
        print(file)
