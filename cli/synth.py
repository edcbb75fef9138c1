"""``facetwin synth -o DATASET``: synthetic talkers in many languages, with sound, phonemes and landmarks."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro

from facetwin.cli.progress import Progress
from facetwin.twin.errors import FaceTwinError, UsageError

if TYPE_CHECKING:
    from facetwin.policies.dataset import Clip
    from facetwin.policies.synthetic import Talker


@dataclass
class Synth:
    """Make a landmark dataset of synthetic talkers, as facetwin track makes one of people.

    espeak-ng says sentences; dominance functions fitted on GRID (talker s1, CC BY 4.0) move lips, jaw and
    cheeks. Each talker has a voice, a way of moving and a face of his own. Every clip knows its phonemes.
    """

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder of the dataset; clips that are there already are kept, so that a run can go on."""
    languages: str = "training"
    """Languages of espeak-ng, with commas; or training, test (the ten that are never trained on), all."""
    voices: str = "train"
    """Voices of espeak-ng, with commas (plain: its own); or train, test (voices never trained on), all."""
    clips: int = 200
    each: int = 8
    """Clips a talker."""
    texts: Path | None = None
    """Own texts: a line a text, or language, tab, text."""
    made_up: float = 0.5
    """Share of texts that are words in any order."""
    invented: float = 0.0
    """Share of the words of such texts that no language has, spelt as its words are: endlessly many."""
    film: Path | None = None
    """Folder for a video of every clip, too: another person's face, drawn, with the sound."""
    size: int = 384
    """Side of those videos, px."""
    seed: int = 0
    json: bool = False
    """Print one JSON object."""


def run(options: Synth) -> int:
    """Make the clips and say how many."""
    from facetwin.policies import synthetic
    from facetwin.policies.dataset import DatasetWriter

    languages, voices = _languages(options.languages), _voices(options.voices)
    if options.clips < 1 or options.each < 1:
        raise UsageError("clips and each are at least 1", where="synth")
    if options.seed < 0:
        raise UsageError("bad seed", where="--seed", found=options.seed, expected="a whole number from 0")
    if options.film is not None and options.film.is_file():
        raise UsageError("is a file", where="--film", found=str(options.film), expected="a folder")
    if not 64 <= options.size <= 2160:
        raise UsageError("no such size", where="--size", found=options.size, expected="64 to 2160 px")
    for name, share in (("--made-up", options.made_up), ("--invented", options.invented)):
        if not 0 <= share <= 1:
            raise UsageError("no such share", where=name, found=share, expected="0 to 1")
    texts = synthetic.read_texts(options.texts, languages) if options.texts else None
    for language in languages:
        synthetic.check_voice(language)
    meta: dict[str, Any] = {
        "source": "synthetic talkers: espeak-ng, articulation fitted on GRID s1 (CC BY 4.0)",
        "synthetic": True,
        "seed": options.seed,
        "voices": [voice or "plain" for voice in voices],
    }
    began = time.monotonic()
    made = 0
    with DatasetWriter(options.out, meta) as out, Progress("talking", options.clips, "clips") as progress:
        plan = synthetic.talkers_and_texts(
            languages, voices, options.clips, seed=options.seed, texts=texts, each=options.each,
            made_up=options.made_up,
        )  # fmt: skip
        for talker, text, name in plan:
            if not out.holds(name):
                try:
                    clip = synthetic.say(talker, text, seed=options.seed, name=name)
                except UsageError as why:  # a text that cannot be said
                    out.drop(name, str(why), text=text)
                    progress.advance()
                    continue
                out.add(
                    clip, text=text, voice=talker.voice or "plain", speed=talker.speed, pitch=talker.pitch
                )
                if options.film is not None:
                    _film(options, talker, clip)
                made += 1
            progress.advance()
    meta = {**out.meta, "made": made, "seconds": round(time.monotonic() - began, 1)}
    if options.json:
        print(json.dumps(meta, ensure_ascii=False))
    else:
        print(
            f"{options.out}: {meta['kept']} clips of {len(meta['talkers'])} talkers in "
            f"{len(meta['languages'])} languages, {meta['frames'] / 25 / 60:.1f} minutes"
        )
        for reason, count in meta["dropped"].items():
            print(f"  dropped {count}: {reason}")
    if not meta["kept"]:
        raise FaceTwinError("no clip was made", where=options.out, hint="see its manifest.jsonl")
    return 0


def _film(options: Synth, talker: Talker, clip: Clip) -> None:
    """The clip as OUT/NAME.mp4; a talker looks the same in all of his clips."""
    import zlib

    from facetwin.policies.synthetic_video import film, make_look

    assert options.film is not None
    look = make_look(np.random.default_rng([options.seed, zlib.crc32(talker.name.encode())]))
    film(clip, options.film / f"{clip.name}.mp4", rest=talker.rest, look=look, size=options.size)


def _languages(asked: str) -> tuple[str, ...]:
    from facetwin.policies.synthetic import TEST_LANGUAGES, TRAINING_LANGUAGES

    groups = {
        "training": TRAINING_LANGUAGES,
        "train": TRAINING_LANGUAGES,
        "test": TEST_LANGUAGES,
        "all": (*TRAINING_LANGUAGES, *TEST_LANGUAGES),
    }
    return groups.get(asked) or _listed(asked, "--languages")


def _voices(asked: str) -> tuple[str, ...]:
    from facetwin.policies.espeak import voices
    from facetwin.policies.synthetic import TEST_VOICES, TRAIN_VOICES

    groups = {"train": TRAIN_VOICES, "training": TRAIN_VOICES, "test": TEST_VOICES}
    groups["all"] = (*TRAIN_VOICES, *TEST_VOICES)
    if asked in groups:
        return groups[asked]
    names = tuple("" if name == "plain" else name for name in _listed(asked, "--voices"))
    unknown = [name for name in names if name and name not in voices()]
    if unknown:
        raise UsageError(
            "no such voice", where="--voices", found=", ".join(unknown),
            hint=f"train, test, all, plain, or of {', '.join(voices())}",
        )  # fmt: skip
    return names


def _listed(asked: str, where: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in asked.split(",") if name.strip()))
    if not names:
        raise UsageError("nothing named", where=where, found=asked, expected="names with commas between")
    return names
