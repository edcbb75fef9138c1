"""What each sound asks of the lips: IPA names to units of the viseme table, and the table itself.

A *unit* is a sound whose target was fitted on recordings (`articulation_fit`); every other IPA letter is
composed of units that are its neighbours in place, height and rounding (`LIKE`). Diphthongs and other
sounds of several letters are said one after the other.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetwin import assets
from facetwin.policies.espeak import Phoneme
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.landmarks import SETS

Floats = NDArray[np.float32]

PAUSE = "_"
#: fitted units by the class whose dominance they share
CLASSES: dict[str, tuple[str, ...]] = {
    "pause": (PAUSE,),
    "bilabial": ("p", "b", "m"),
    "labiodental": ("f", "v"),
    "dental": ("θ", "ð"),
    "alveolar": ("t", "d", "n"),
    "lateral": ("l",),
    "sibilant": ("s", "z"),
    "postalveolar": ("ʃ", "ʒ"),
    "velar": ("k", "ɡ"),
    "rhotic": ("ɹ",),
    "glide": ("j",),
    "labiovelar": ("w",),
    "close": ("i", "ɪ"),
    "mid": ("ɛ", "ə"),
    "open": ("a", "ɐ", "ɑ"),
    "rounded": ("ɔ", "ɒ"),
    "close rounded": ("u",),
}
UNITS: tuple[str, ...] = tuple(unit for units in CLASSES.values() for unit in units)

#: rounding by itself: what rounded vowels have that spread ones of the same height have not
ROUND = "+round"
ROUNDING = {"u": 0.5, "ɔ": 0.5, "i": -0.5, "ɑ": -0.5}
_ALVEOLAR = {"t": 0.34, "d": 0.33, "n": 0.33}
_VELAR = {"k": 0.5, "ɡ": 0.5}
_DENTAL = {"θ": 0.5, "ð": 0.5}
_HUSH = {"ʃ": 0.5, "ʒ": 0.5}
_BILABIAL = {"p": 0.34, "b": 0.33, "m": 0.33}
_LIP_TEETH = {"f": 0.5, "v": 0.5}
_RETROFLEX = {"t": 0.4, "d": 0.4, "n": 0.2, ROUND: 0.15}
_PALATAL = {"j": 0.6, "k": 0.2, "ɡ": 0.2}


def _all(letters: str, recipe: Mapping[str, float]) -> dict[str, Mapping[str, float]]:
    return {letter: recipe for letter in letters}


#: letters that are no units: weights of units; letters of one row are neighbours of the same units
LIKE: dict[str, Mapping[str, float]] = {
    **_all("ɓʙʘɸβ", _BILABIAL),
    **_all("ɱʋⱱ", _LIP_TEETH),
    **_all("ɾrɺǀǃ", {"t": 0.3, "d": 0.3, "l": 0.4}),
    **_all("ɗ", _ALVEOLAR),
    **_all("ɬɮɫʟǁ", {"l": 1.0}),
    **_all("ʎ", {"l": 0.5, "j": 0.5}),
    **_all("ʈɖɳɭɽ", _RETROFLEX),
    **_all("ʂʐ", _HUSH),
    **_all("ɕʑ", {"ʃ": 0.3, "ʒ": 0.3, "s": 0.2, "z": 0.2}),
    **_all("ɻ", {"ɹ": 1.0}),
    **_all("ɲ", {"n": 0.5, "j": 0.5}),
    **_all("cɟçʝʄǂ", _PALATAL),
    **_all("ŋxɣqɢχʁʀɴɠʛɰħʕʜʢʡgɧ", _VELAR),
    "ɥ": {"w": 0.6, "j": 0.4},
    "ʍ": {"w": 1.0},
    # vowels: from close to open, spread, then rounded
    "ɨ": {"ɪ": 0.7, "i": 0.3},
    "ɯ": {"ɪ": 0.6, "i": 0.2, "ə": 0.2},
    "y": {"u": 0.8, "i": 0.2, ROUND: 0.5},
    "ʊ": {"u": 0.75, "ə": 0.25},
    "ʏ": {"u": 0.65, "ɪ": 0.35, ROUND: 0.4},
    "ʉ": {"u": 1.0},
    "e": {"ɪ": 0.5, "ɛ": 0.5},
    "ɘ": {"ɪ": 0.3, "ə": 0.7},
    "ø": {"ɔ": 0.6, "ɛ": 0.2, "ɪ": 0.2, ROUND: 0.3},
    "ɵ": {"ə": 0.6, "u": 0.4, ROUND: 0.3},
    "o": {"ɔ": 0.5, "u": 0.5},
    "ɤ": {"ə": 0.7, "ɐ": 0.3},
    "œ": {"ɔ": 0.6, "ɛ": 0.4, ROUND: 0.2},
    "ɜ": {"ə": 0.6, "ɛ": 0.4},
    "ɚ": {"ə": 0.6, "ɹ": 0.4},
    "ɝ": {"ə": 0.4, "ɛ": 0.2, "ɹ": 0.4},
    "ɞ": {"ɛ": 0.5, "ə": 0.5, ROUND: 0.5},
    "ʌ": {"ɐ": 0.8, "ɔ": 0.2},
    "æ": {"a": 0.8, "ɛ": 0.2},
    "ɶ": {"a": 1.0, ROUND: 0.4},
    "ᵻ": {"ɪ": 0.7, "ə": 0.3},
    "ᵿ": {"u": 0.5, "ə": 0.5},
}
#: sounds of the throat: the lips are already at what follows
THROAT = frozenset("hɦʔ")
VOWELS = frozenset("iɪɨɯyʏʉuʊeɘøɵoɤəɛœɜɚɝɞʌɔæaɶɐɑɒᵻᵿ")
#: the lips must touch
CLOSES = frozenset("pbmɓʘʙ")
#: nasals and trills hold the closure as long as they sound; stops let go at the burst, where they begin
HELD = frozenset("mʙ")
#: how long before its burst a stop is shut (espeak's own silence), and how long after it still counts, s
CLOSURE, RELEASE = 0.05, 0.015
TEETH = frozenset("fvɱʋⱱ")
#: espeak's own spellings (Kirshenbaum's leftovers) of letters
_SPELLINGS = {
    "s.": "ʂ", "z.": "ʐ", "t.": "ʈ", "d.": "ɖ", "n.": "ɳ", "l.": "ɭ", "r.": "ɽ", "ε": "ɛ",
    "ʦ": "ts", "ʧ": "tʃ", "ʤ": "dʒ", "ʣ": "dz", "ʨ": "tɕ", "ʥ": "dʑ",
}  # fmt: skip
_LABIALISED = "ʷᵝ"


@dataclass(frozen=True)
class Segment:
    """A unit-like sound in time: letter of IPA ("_" for a pause), start and end in s, stress, rounding."""

    letter: str
    start: float
    end: float
    stressed: bool = False
    labialised: bool = False


def letters(name: str) -> list[str]:
    """Letters of an IPA name that ask something of the lips, in order; raises for a letter nobody knows.

    >>> letters("ˈaɪ"), letters("tʃ"), letters("s."), letters("ɛ̃"), letters("")
    (['a', 'ɪ'], ['ʃ'], ['ʂ'], ['ɛ'], [])
    """
    for spelt, ipa in _SPELLINGS.items():
        name = name.replace(spelt, ipa)
    found = [c for c in unicodedata.normalize("NFD", name) if _is_letter(c)]
    unknown = [c for c in found if c not in UNITS and c not in LIKE and c not in THROAT]
    if unknown:
        raise FaceTwinError("no viseme for a sound", where=name, found=" ".join(unknown))
    # an affricate has the lips of its fricative from the start
    return [
        c for k, c in enumerate(found) if not (c in "tdʈɖ" and "".join(found[k + 1 : k + 2]) in _FRICATIVES)
    ]


_FRICATIVES = frozenset("ʃʒʂʐɕʑsz")


def _is_letter(c: str) -> bool:
    """Letters, but neither marks above and below them nor modifiers (ʰ ʲ ː ˈ), digits or dots."""
    return unicodedata.category(c) in ("Ll", "Lo", "Lu")


#: all sounds that have a viseme, the pause first
SOUNDS: tuple[str, ...] = (PAUSE, *sorted({*UNITS, *LIKE, *THROAT} - {PAUSE}))


def spoken(phonemes: Sequence[Phoneme], frames: int, *, fps: float = 25.0) -> NDArray[np.int64]:
    """The sound that the lips are at in each picture: places in `SOUNDS`, int64 [shape=(frames,)].

    -1 where it has no viseme; picture k is at k / fps. Before and after all sounds is a pause.
    """
    found = np.zeros(frames, np.int64)
    place = {letter: k for k, letter in enumerate(SOUNDS)}
    for s in segments(phonemes):
        first, last = np.ceil(np.array([s.start, s.end]) * fps - 1e-6).astype(int).clip(0, frames)
        found[first:last] = place.get(s.letter, -1)
    return found


def segments(phonemes: Sequence[Phoneme]) -> list[Segment]:
    """Phonemes as sounds for the lips, without a gap: pauses joined, diphthongs parted, 55 to 45."""
    parts: list[Segment] = []
    for p in phonemes:
        own = letters(p.name)
        if not own and p.name and parts:  # a tone, a mark
            parts[-1] = replace(parts[-1], end=p.end)
            continue
        if not own:
            if parts and parts[-1].letter == PAUSE:
                parts[-1] = Segment(PAUSE, parts[-1].start, p.end)
            elif p.end > p.start or not parts:
                parts.append(Segment(PAUSE, p.start, p.end))
            continue
        share = np.array([0.0, 1.0]) if len(own) == 1 else np.linspace(0, 1, len(own) + 1) ** 0.85
        edges = p.start + share * (p.end - p.start)
        for k, letter in enumerate(own):
            stressed = "ˈ" in p.name and letter in VOWELS
            round_ = k + 1 == len(own) and any(c in p.name for c in _LABIALISED)
            parts.append(Segment(letter, float(edges[k]), float(edges[k + 1]), stressed, round_))
    return _closed_before_bursts(parts)


def _closed_before_bursts(parts: list[Segment]) -> list[Segment]:
    """Bilabial stops put where the lips touch: from `CLOSURE` before the burst to just after it."""
    moved = list(parts)
    for k, part in enumerate(parts):
        if part.letter not in CLOSES or part.letter in HELD:
            continue
        before = moved[k - 1] if k else None
        room = CLOSURE if before is None else min(CLOSURE, 0.5 * (before.end - before.start))
        start, end = part.start - room, min(part.end, part.start + RELEASE)
        moved[k] = replace(part, start=start, end=end)
        if before is not None:
            moved[k - 1] = replace(before, end=min(before.end, start))
        if (
            k + 1 < len(parts) and parts[k + 1].letter != PAUSE
        ):  # what is breathed out has the next sound's lips
            moved[k + 1] = replace(moved[k + 1], start=end)
    return moved


@dataclass(frozen=True)
class Table:
    """The fitted table.

    Attributes
    ----------
    basis : float32 [shape=(K, 63, 3), u], what a channel of motion does to `speech63`
    mean_rest : float32 [shape=(63, 3), u], the talker's rest that displacements count from
    targets : {unit: float32 [shape=(K,)]}
    strength : {unit: float32 [shape=(K,)]}, log of dominance
    before, after : {unit: float32 [shape=(K,), s]}, reach of a sound ahead of its start, beyond its end
    scalars : other fitted numbers (exponent, stress, lead in s)
    about : where it comes from
    """

    basis: Floats
    targets: Mapping[str, Floats]
    strength: Mapping[str, Floats]
    before: Mapping[str, Floats]
    after: Mapping[str, Floats]
    scalars: Mapping[str, float]
    about: Mapping[str, Any]

    @property
    def channels(self) -> int:
        """Number of channels K."""
        return len(self.basis)

    def target(self, letter: str) -> Floats:
        """Target of any letter, composed where it is no unit."""
        return self._mix(letter, self.targets, rounding=True)

    def dominance(self, letter: str) -> tuple[Floats, Floats, Floats]:
        """Log strength and reach before and after, s, of any letter [each shape=(K,)]."""
        return (
            self._mix(letter, self.strength),
            np.exp(self._mix(letter, {u: np.log(v) for u, v in self.before.items()})),
            np.exp(self._mix(letter, {u: np.log(v) for u, v in self.after.items()})),
        )

    @property
    def rounding(self) -> Floats:
        """What rounding does but for opening, [shape=(K,)]: rounded against spread vowels of equal height."""
        whole = np.sum([self.targets[u] * w for u, w in ROUNDING.items()], axis=0)  # (K,)
        upper, lower = (SETS["speech63"].index(p) for p in (13, 14))
        opens = self.basis[:, upper, 1] - self.basis[:, lower, 1]  # (K,)
        return np.asarray(whole - opens * (whole @ opens) / (opens @ opens), np.float32)

    def _mix(self, letter: str, values: Mapping[str, Floats], rounding: bool = False) -> Floats:
        if letter in values:
            return values[letter]
        recipe = LIKE[letter]
        total = sum(weight for unit, weight in recipe.items() if unit != ROUND)
        mixed = sum(weight / total * values[unit] for unit, weight in recipe.items() if unit != ROUND)
        if rounding and ROUND in recipe:
            mixed = mixed + recipe[ROUND] * self.rounding
        return np.asarray(mixed, np.float32)


@cache
def shipped() -> Table:
    """The table in assets/speech/visemes.json, fitted on GRID s1 (CC BY 4.0)."""
    return read_table(assets.path("speech", "visemes.json"))


def read_table(path: str | Path) -> Table:
    """A table from its JSON; one-line errors for other files."""
    try:
        raw = json.loads(Path(path).read_text("utf-8"))
        units = {name: {u: np.asarray(v, np.float32) for u, v in raw[name].items()} for name in _PER_UNIT}
        basis = np.asarray(raw["basis"], np.float32)
        if any(set(UNITS) - set(values) for values in units.values()):
            raise ValueError("a unit is missing")
        if any(v.shape != (len(basis),) for values in units.values() for v in values.values()):
            raise ValueError("a row of another length than the basis")
        if basis.shape[1:] != (63, 3) or not np.isfinite(basis).all():
            raise ValueError("a basis of another shape")
        return Table(basis, **units, scalars=raw["scalars"], about=raw["about"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as why:
        raise FaceTwinError("not a table of visemes", where=path, found=str(why)) from None


_PER_UNIT = ("targets", "strength", "before", "after")


def write_table(table: Table, path: str | Path) -> None:
    """The table as JSON, numbers to five places."""
    raw: dict[str, Any] = {"about": dict(table.about), "scalars": dict(table.scalars)}
    for name in _PER_UNIT:
        raw[name] = {unit: _rounded(values) for unit, values in getattr(table, name).items()}
    raw["basis"] = [[_rounded(point) for point in channel] for channel in table.basis]
    path = Path(path)
    part = path.with_name(path.name + ".part")
    text = json.dumps(raw, ensure_ascii=False, indent=1)
    # numbers of a row on one line
    import re

    text = re.sub(r"\[\s+(-?[\d.e,\s+-]+?)\s+\]", lambda m: "[" + " ".join(m[1].split()) + "]", text)
    part.write_text(text + "\n", "utf-8")
    part.replace(path)


def _rounded(values: Floats) -> list[float]:
    return [round(float(v), 5) for v in values]
