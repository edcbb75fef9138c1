"""Viseme confusion: can the sound be read off the lips, as well as off a person's?

A linear classifier (discriminant analysis with a shrunken covariance, Friedman 1989) learns from *reference*
motion which of 24 consonants and 16 vowels (English, ARPABET) is being said, from a short window of the
speech points round the sound's middle. It is then tested on generated and on reference motion of other
clips; the figure is accuracy(generated) / accuracy(reference). Sounds that look the same (p b m) cannot be
told apart by anybody, so accuracies are far below 1 and only the ratio means something; by viseme class,
they can. A mouth that moves well but late, or the same for every sound, fails.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetwin.policies.espeak import Phoneme
from facetwin.policies.scores import FPS, Score
from facetwin.twin.errors import FaceTwinError

_NAMES = """
P B M F V W TH DH T D N S Z L CH JH SH ZH R Y K G NG HH
IY IH EY EH AE AA AY AW AH AX ER AO OY OW UH UW
"""
CONSONANTS, VOWELS = (tuple(line.split()) for line in _NAMES.strip().splitlines())
PHONES = CONSONANTS + VOWELS

#: viseme classes: sounds that look alike (Fisher 1968, with the vowels by lip shape)
CLASSES: dict[str, tuple[str, ...]] = {
    "p b m": ("P", "B", "M"),
    "f v": ("F", "V"),
    "w": ("W",),
    "th": ("TH", "DH"),
    "t d n s z l": ("T", "D", "N", "S", "Z", "L"),
    "sh ch": ("CH", "JH", "SH", "ZH"),
    "r er": ("R", "ER"),
    "k g h y": ("Y", "K", "G", "NG", "HH"),
    "ee": ("IY", "IH", "EY"),
    "ah": ("EH", "AE", "AA", "AY", "AW", "AH", "AX"),
    "oo": ("AO", "OY", "OW", "UH", "UW"),
}
_CLASS_OF = {phone: name for name, phones in CLASSES.items() for phone in phones}

#: IPA of espeak-ng's English to ARPABET; the longest beginning that is listed decides
_TABLE = """
p=P b=B m=M f=F v=V w=W ʍ=W ð=DH θ=TH s=S z=Z ʒ=ZH ʃ=SH t=T ɾ=T d=D n=N l=L ɫ=L ɹ=R r=R j=Y k=K
ɡ=G g=G h=HH ŋ=NG tʃ=CH dʒ=JH
i=IY iə=IY ɪ=IH ᵻ=IH e=EH eɪ=EY ɛ=EH eə=EH a=AE æ=AE ɑ=AA ɒ=AA aɪ=AY aʊ=AW ʌ=AH ɐ=AX ə=AX
əʊ=OW o=OW oʊ=OW ɔ=AO ɔɪ=OY ɜ=ER ɝ=ER ɚ=ER ʊ=UH ʊə=UH u=UW
"""
_IPA = dict(pair.split("=") for pair in _TABLE.split())

#: pictures before and after the middle of a sound that the classifier sees (of 40 ms each)
REACH = 3
SHRINK = 0.02  #: of the covariance towards its mean variance
DEPTH = 80  #: principal components that the classifier sees at most

Floats = NDArray[np.floating]
Phonemes = Sequence[Phoneme]


def phone(name: str) -> str | None:
    """ARPABET of a phoneme in IPA, stress and length ignored; None for pauses and foreign sounds.

    >>> [phone(p) for p in ("ˈoʊ", "dʒ", "iː", "ɑːɹ", "n̩", "", "ʁ")]
    ['OW', 'JH', 'IY', 'AA', 'N', None, None]
    """
    letters = "".join(c for c in unicodedata.normalize("NFD", name) if c.isalpha() and c not in "ːˑʰʲˠˤˈˌ")
    return next((_IPA[letters[:k]] for k in (2, 1) if letters[:k] in _IPA), None)


def viseme(name: str) -> str | None:
    """Viseme class of a phoneme in IPA.

    >>> viseme("m"), viseme("uː"), viseme("")
    ('p b m', 'oo', None)
    """
    found = phone(name)
    return None if found is None else _CLASS_OF[found]


@dataclass(frozen=True)
class Sounds:
    """Windows round the middles of sounds: float64 [shape=(n, F)] and their ARPABET names [shape=(n,)]."""

    windows: NDArray[np.float64]
    names: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.names)


def sounds(
    moves: Sequence[ArrayLike],
    phonemes: Sequence[Phonemes],
    *,
    seen: Sequence[ArrayLike] | None = None,
    reach: int = REACH,
) -> Sounds:
    """Cut the sounds out of clips.

    Parameters
    ----------
    moves : displacement of the speech points from the talker's rest, float [each (T, 63, 2), u], 25 fps
    phonemes : sounds of each clip, times in s from its first picture
    seen : bool [each (T,)]; a sound with an unseen picture in its window is left out
    reach : pictures before and after the middle; a clip's ends are held
    """
    if len(moves) != len(phonemes) or (seen is not None and len(seen) != len(moves)):
        raise FaceTwinError(
            "clips and their phonemes do not pair", where="visemes", found=f"{len(moves)}, {len(phonemes)}"
        )
    windows, names = [], []
    for k, (move, said) in enumerate(zip(moves, phonemes)):
        flat = np.asarray(move, np.float64)
        flat = flat.reshape(len(flat), -1)  # (T, 126)
        known = np.ones(len(flat), bool) if seen is None else np.asarray(seen[k], bool)
        for sound in said:
            name = phone(sound.name)
            middle = (sound.start + sound.end) / 2 * FPS
            if name is None or not 0 <= middle <= len(flat) - 1:
                continue
            place = np.clip(middle + np.arange(-reach, reach + 1), 0, len(flat) - 1)  # (2 reach + 1,)
            low = np.minimum(place.astype(int), max(0, len(flat) - 2))
            high = np.minimum(low + 1, len(flat) - 1)
            if not (known[low].all() and known[high].all()):
                continue
            share = (place - low)[:, None]
            windows.append((flat[low] * (1 - share) + flat[high] * share).ravel())
            names.append(name)
    width = (2 * reach + 1) * (int(np.prod(np.shape(moves[0])[1:])) if len(moves) else 0)
    return Sounds(np.array(windows).reshape(-1, width), np.array(names, dtype=np.str_))


class LipReader:
    """Linear discriminant analysis of `Sounds`, on principal components, with a shrunken covariance.

    Attributes
    ----------
    names_ : classes known, in order of `PHONES`
    """

    names_: tuple[str, ...]

    def __init__(self, depth: int = DEPTH, shrink: float = SHRINK) -> None:
        self.depth, self.shrink = depth, shrink

    def fit(self, data: Sounds) -> LipReader:
        """Learn from reference motion; raises `FaceTwinError` for fewer than two kinds of sound."""
        kinds = set(data.names.tolist())
        self.names_ = tuple(p for p in PHONES if p in kinds)
        if len(self.names_) < 2:
            raise FaceTwinError("too few kinds of sound", where="LipReader.fit", found=len(self.names_),
                                expected="2 or more", hint="more clips with phonemes")  # fmt: skip
        self._mean = data.windows.mean(0)
        centred = data.windows - self._mean
        size, ways = np.linalg.eigh(centred.T @ centred)  # rising; (F,), (F, F)
        depth = min(self.depth, int((size > 1e-12 * size[-1]).sum()) or 1)
        self._ways = ways[:, ::-1][:, :depth]  # (F, depth)
        x = centred @ self._ways  # (n, depth)
        number = np.array([self.names_.index(name) for name in data.names])
        counts = np.bincount(number, minlength=len(self.names_)).astype(float)
        means = np.stack([x[number == k].mean(0) for k in range(len(self.names_))])  # (C, depth)
        inner = x - means[number]
        spread = inner.T @ inner / max(1, len(x) - len(self.names_))
        spread = (1 - self.shrink) * spread + self.shrink * np.trace(spread) / depth * np.eye(depth)
        spread += 1e-12 * np.eye(depth)
        self._weights = np.linalg.solve(spread, means.T)  # (depth, C)
        self._bias = np.log(counts / counts.sum()) - 0.5 * (means.T * self._weights).sum(0)
        return self

    def scores(self, windows: ArrayLike) -> NDArray[np.float64]:
        """Log-likelihood of each class up to a constant, float64 [shape=(n, C)]."""
        x = (np.asarray(windows, np.float64) - self._mean) @ self._ways
        out: NDArray[np.float64] = x @ self._weights + self._bias
        return out

    def predict(self, windows: ArrayLike) -> NDArray[np.str_]:
        """Names read off windows [shape=(n, F)]."""
        return np.array(self.names_)[self.scores(windows).argmax(1)]

    def confusion(self, data: Sounds, *, classes: bool = False) -> Confusion:
        """What is said against what is read; by viseme class with `classes` (the same answers, pooled)."""
        said, read = data.names, self.predict(data.windows) if len(data) else data.names
        names = tuple(CLASSES) if classes else PHONES
        if classes:
            said, read = (np.array([_CLASS_OF[str(s)] for s in part], np.str_) for part in (said, read))
        counts = np.zeros((len(names), len(names)), int)
        place = {name: k for k, name in enumerate(names)}
        for a, b in zip(said, read):
            counts[place[str(a)], place[str(b)]] += 1
        return Confusion(names, counts)


@dataclass(frozen=True)
class Confusion:
    """Counts int [shape=(C, C)] of sounds said (rows) and read (columns)."""

    names: tuple[str, ...]
    counts: NDArray[np.int_]

    @property
    def accuracy(self) -> float:
        """Share of sounds read rightly; NaN without any."""
        total = int(self.counts.sum())
        return float(np.trace(self.counts) / total) if total else float("nan")

    @property
    def balanced(self) -> float:
        """Mean over the kinds of sound of the share read rightly: rare sounds count as much."""
        each = self.counts.sum(1)
        there = each > 0
        return float((np.diag(self.counts)[there] / each[there]).mean()) if there.any() else float("nan")

    @property
    def chance(self) -> float:
        """What always naming the commonest sound would score."""
        total = int(self.counts.sum())
        return float(self.counts.sum(1).max() / total) if total else float("nan")


@dataclass(frozen=True)
class Reading:
    """Generated and reference motion read by one classifier, by phoneme and by viseme class."""

    generated: Confusion
    reference: Confusion
    generated_classes: Confusion
    reference_classes: Confusion
    trained: int

    def scores(self) -> dict[str, Score]:
        """The figures; the ratio is what is held against .8."""

        def ratio(a: float, b: float) -> float:
            return a / b if b > 0 else float("nan")

        g, r, gc, rc = self.generated, self.reference, self.generated_classes, self.reference_classes
        every = [
            Score("viseme ratio", ratio(g.accuracy, r.accuracy), "", "high", "24 consonants, 16 vowels"),
            Score("viseme ratio, balanced", ratio(g.balanced, r.balanced), "", "high"),
            Score("viseme ratio, classes", ratio(gc.accuracy, rc.accuracy), "", "high", "11 classes"),
            Score("accuracy, generated", g.accuracy, "share", "high"),
            Score("accuracy, reference", r.accuracy, "share"),
            Score("accuracy, commonest sound", r.chance, "share"),
            Score("class accuracy, generated", gc.accuracy, "share", "high"),
            Score("class accuracy, reference", rc.accuracy, "share"),
            Score("class accuracy, commonest", rc.chance, "share"),
        ]
        return {score.name: score for score in every}


def read_visemes(train: Sounds, generated: Sounds, reference: Sounds) -> Reading:
    """Fit on `train` (reference motion of other clips) and read the other two, which must pair."""
    if generated.names.tolist() != reference.names.tolist():
        raise FaceTwinError(
            "generated and reference sounds differ", where="read_visemes", found=len(generated),
            expected=f"the same {len(reference)} sounds", hint="cut both with the same phonemes and `seen`",
        )  # fmt: skip
    reader = LipReader().fit(train)
    pairs = [reader.confusion(data, classes=c) for c in (False, True) for data in (generated, reference)]
    return Reading(pairs[0], pairs[1], pairs[2], pairs[3], len(train))


def draw_confusion(reading: Reading, path: str | Path, *, title: str = "") -> None:
    """Picture (png) of four matrices: generated and reference, by phoneme and by class, rows to share 1."""
    from matplotlib.figure import Figure

    path = Path(path)
    figure = Figure(figsize=(13, 12), layout="constrained")
    axes = figure.subplots(2, 2)
    rows = ((reading.generated, reading.reference), (reading.generated_classes, reading.reference_classes))
    for line, pair in zip(axes, rows):
        for axis, confusion, what in zip(line, pair, ("generated", "reference")):
            share = confusion.counts / np.maximum(confusion.counts.sum(1, keepdims=True), 1)
            axis.imshow(share, vmin=0, vmax=1, cmap="viridis")
            small = 6 if len(confusion.names) > 20 else 9
            axis.set_xticks(range(len(confusion.names)), confusion.names, rotation=90, fontsize=small)
            axis.set_yticks(range(len(confusion.names)), confusion.names, fontsize=small)
            axis.set_xlabel("read off the lips")
            axis.set_ylabel("said")
            axis.set_title(f"{what}: {confusion.accuracy:.3f} right of {confusion.counts.sum()}")
    figure.suptitle(title or "Sounds read off the lips by a linear classifier")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(f"{path}.part", format="png", dpi=110)
    os.replace(f"{path}.part", path)
