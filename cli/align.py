"""``facetwin align AUDIO --text FILE``: when each word and sound of a known text is said."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from facetwin.cli.progress import Progress
from facetwin.twin.errors import UsageError


@dataclass
class Align:
    """Align a recording with its text: times of words and phonemes, found without any learned weights.

    espeak-ng says the text, and the recording is warped onto its voice. The text must be all that is said;
    silence may stand anywhere between words.
    """

    audio: tyro.conf.Positional[Path]
    """Recording, or a video with sound; three minutes at most."""
    text: str
    """File with the text in UTF-8, or the text itself. Of lines like "f001|text" the part behind the bar."""
    language: str = "en-us"
    """Language of espeak-ng."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """JSON to write: words and phonemes with start and end in s."""
    json: bool = False
    """Print one JSON object."""


def run(options: Align) -> int:
    """Align, write, and print the words."""
    from facetwin.policies import audio
    from facetwin.policies.forced_alignment import LONGEST, align

    text = _text(options.text)
    if options.out is not None and options.out.is_dir():
        raise UsageError("is a folder", where=options.out, expected="name of a .json")
    info = audio.scan(options.audio)
    if info.duration > LONGEST:
        raise UsageError(
            "too long to align at once", where=options.audio, found=f"{info.duration:.0f} s",
            expected=f"at most {LONGEST:.0f} s", hint="cut it at pauses",
        )  # fmt: skip
    with Progress("aligning"):
        found = align(audio.load(options.audio).samples, text, options.language)
    result = {
        "audio": options.audio.name,
        "text": text,
        "language": options.language,
        "cost": round(found.cost, 4),
        "words": [{"text": w.text, "start": round(w.start, 3), "end": round(w.end, 3)} for w in found.words],
        "phonemes": [
            {"name": p.name, "start": round(p.start, 3), "end": round(p.end, 3)} for p in found.phonemes
        ],
    }
    if options.out is not None:
        from facetwin.policies.dataset import write_json

        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.out, result)
    if options.json:
        print(json.dumps(result, ensure_ascii=False))
    else:
        for word in found.words:
            print(f"{word.start:8.3f} {word.end:8.3f}  {word.text}")
    return 0


def _text(given: str) -> str:
    """The text of a file, where there is one of that name."""
    path = Path(given)
    try:
        there = path.is_file()
    except OSError:  # a sentence too long for a name
        there = False
    if not there:
        if path.suffix.lower() in (".txt", ".lab") or not given.strip():
            raise UsageError("no such file", where="--text", found=given, hint="check the path")
        return given
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as why:
        raise UsageError("not a text", where=path, found=str(why), expected="UTF-8") from None
    text = "\n".join(line.partition("|")[2] if "|" in line else line for line in lines).strip()
    if not text:
        raise UsageError("nothing in it", where=path, expected="what is said in the recording")
    return text
