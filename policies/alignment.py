"""When the lips must be shut: onsets of bilabials and of control sounds, from word alignments.

GRID aligns words, not phonemes, so the onset of a word stands for the onset of its first sound. Bilabial
words begin with /p b m/ as they are *spoken*: bin, blue, by, place, please and the letters b and p; the
letter m does not belong here, for it is said "em" (the talker's lips are open at four of ten onsets).
Controls begin with a sound that asks nothing of the lips: lay, set, at, in, again, now, two, six, a, e, ...
Left out of both are words whose first sound shapes the lips: /w/ (white, with, one), /f v/ (four, five,
v) and English /r/, which is rounded (red: the tracker sees it shut at every onset).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from facetwin.twin.errors import FaceTwinError, UsageError

#: GRID counts time in samples of its 25 kHz recordings
UNITS_PER_SECOND = 25_000
BILABIAL_WORDS = frozenset(("bin", "blue", "by", "place", "please", "b", "p"))
CONTROL_WORDS = frozenset(
    (
        *("lay", "set", "green", "at", "in", "again", "now", "soon"),
        *("two", "three", "six", "seven", "eight", "nine", "zero"),
        *"acdeghijklnstxyz",
    )
)
ROUNDED_WORDS = frozenset(("white", "with", "one", "red", "r"))
LABIODENTAL_WORDS = frozenset(("four", "five", "v"))


@dataclass(frozen=True)
class Word:
    """A word of a sentence, start and end in s."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Onsets:
    """Onset times in s of sounds by what they ask of the lips; `control` asks nothing."""

    bilabial: tuple[float, ...] = ()
    rounded: tuple[float, ...] = ()
    labiodental: tuple[float, ...] = ()
    control: tuple[float, ...] = ()


def read_align(path: str | Path) -> list[Word]:
    """Words of a GRID alignment file, pauses included; raises one-line errors for other files."""
    path = Path(path)
    try:
        lines = path.read_text("utf-8").split("\n")
    except FileNotFoundError:
        raise UsageError("no such alignment", where=path, hint="check the path") from None
    except UnicodeDecodeError:
        raise FaceTwinError("not an alignment", where=path, expected="text: start end word") from None
    words = []
    for number, line in enumerate(lines, 1):
        parts = line.split()
        if not parts:
            continue
        try:
            start, end, text = int(parts[0]), int(parts[1]), parts[2]
        except (ValueError, IndexError):
            raise FaceTwinError(
                "not an alignment", where=f"{path}:{number}", found=line, expected="start end word"
            ) from None
        words.append(Word(text, start / UNITS_PER_SECOND, end / UNITS_PER_SECOND))
    return words


def word_onsets(words: list[Word]) -> Onsets:
    """Onsets by the first sound of each word."""
    sets = {"bilabial": BILABIAL_WORDS, "rounded": ROUNDED_WORDS}
    sets |= {"labiodental": LABIODENTAL_WORDS, "control": CONTROL_WORDS}
    times = {
        name: tuple(w.start for w in words if w.text.lower() in members) for name, members in sets.items()
    }
    return Onsets(**times)
