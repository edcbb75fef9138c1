"""A sung line: espeak-ng cannot sing, so what it says in a flat voice is put on a melody.

Each syllable's vowel is drawn out until its note ends, and the whole syllable is moved to the note's pitch
by a phase vocoder (librosa); the pieces' edges are softened. Consonants keep their length. It sounds as one
expects; what matters is that lips meet sounds of another length and pitch than speech, at known times.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facetwin.policies import espeak
from facetwin.policies.espeak import OPEN, RATE, Phoneme, Speech
from facetwin.twin.errors import UsageError

Floats = NDArray[np.float32]

FADE = 0.008  #: s, cross-fade of neighbouring pieces
#: a vowel is drawn out or shortened by at most so much
STRETCH = (0.6, 6.0)
VOWELS = OPEN | frozenset("uʊoɔyøœɵʉɒ")


@dataclass(frozen=True)
class Note:
    """Pitch in semitones above the speaking voice, and length in s."""

    pitch: float
    length: float


#: the line that the benchmark sings: a rising and falling scale with two long notes
TEXT = "Maybe my baby will blow a bubble for Mom."
TUNE = tuple(
    Note(pitch, length)
    for pitch, length in (
        (0, 0.4), (2, 0.4), (4, 0.4), (5, 0.4), (7, 0.8), (5, 0.4), (4, 0.6), (2, 0.3), (4, 0.4), (2, 0.4),
        (0, 1.0),
    )
)  # fmt: skip


def sing(text: str = TEXT, tune: Sequence[Note] = TUNE, language: str = "en-us") -> Speech:
    """A text on a tune, a note a syllable; notes begin anew where the text has more syllables.

    Returns a `Speech` whose phonemes lie where they are sung. Raises `UsageError` for an empty tune, a note
    without length, or a text without a vowel.
    """
    if not tune or any(not note.length > 0 for note in tune):
        raise UsageError("no tune", where="sing()", found=list(tune)[:3], expected="notes with a length")
    said = espeak.speak(text, language, speed=130, melody=0)
    groups = syllables(said.phonemes)
    if not any(_is_vowel(p) for group in groups for p in group):
        raise UsageError("nothing that can be sung", where="sing()", found=text, expected="a vowel")
    pieces: list[Floats] = []
    sung: list[Phoneme] = []
    time, turn = 0.0, 0
    for group in groups:
        vowel = any(_is_vowel(p) for p in group)
        note = tune[turn % len(tune)]
        turn += vowel
        rest = sum(p.end - p.start for p in group if not _is_vowel(p))
        drawn = sum(p.end - p.start for p in group if _is_vowel(p))
        slow = float(np.clip((note.length - rest) / drawn, *STRETCH)) if drawn else 1.0
        for p in group:
            part = said.samples[round(p.start * RATE) : round(p.end * RATE)]
            piece = _tuned(part, slow if _is_vowel(p) else 1.0, note.pitch if vowel else 0.0)
            pieces.append(piece)
            sung.append(Phoneme(p.name, time, time + len(piece) / RATE))
            time += len(piece) / RATE
    return Speech(text, language, _joined(pieces), tuple(sung))


def syllables(phonemes: Sequence[Phoneme]) -> list[list[Phoneme]]:
    """Phonemes in groups of one vowel each, consonants with the vowel that follows, pauses by themselves.

    >>> [[p.name for p in g] for g in syllables([Phoneme(n, 0, 1) for n in ("b", "a", "m", "i", "n", "")])]
    [['b', 'a'], ['m', 'i', 'n'], ['']]
    """
    groups: list[list[Phoneme]] = []
    waiting: list[Phoneme] = []
    for phoneme in phonemes:
        if not phoneme.name:
            if waiting:
                _append(groups, waiting)
                waiting = []
            groups.append([phoneme])
            continue
        waiting.append(phoneme)
        if _is_vowel(phoneme):
            groups.append(waiting)
            waiting = []
    if waiting:
        _append(groups, waiting)
    return groups


def _append(groups: list[list[Phoneme]], rest: list[Phoneme]) -> None:
    """Closing consonants to the syllable before, if there is one."""
    if groups and groups[-1][0].name:
        groups[-1].extend(rest)
    else:
        groups.append(rest)


def _is_vowel(phoneme: Phoneme) -> bool:
    letters = [c for c in phoneme.name if c.isalpha() and c not in "ʰʲˠˤʷˈˌ"]
    return bool(letters) and letters[0] in VOWELS


def _tuned(part: Floats, slow: float, pitch: float) -> Floats:
    """A piece of sound drawn out by a factor and moved by so many semitones."""
    import librosa

    if len(part) < 64:
        return part
    size = int(min(1024, 2 ** np.floor(np.log2(len(part)))))
    with warnings.catch_warnings():  # librosa warns of pieces shorter than its window
        warnings.simplefilter("ignore")
        if slow != 1.0:
            part = librosa.effects.time_stretch(part, rate=1 / slow, n_fft=size)
        if pitch:
            part = librosa.effects.pitch_shift(part, sr=RATE, n_steps=pitch, n_fft=size)
    return np.asarray(part, np.float32)


def _joined(pieces: Sequence[Floats]) -> Floats:
    """Pieces end to end, their edges softened so that joins do not click; length is kept."""
    edge = round(FADE * RATE)
    out = []
    for piece in pieces:
        soft = piece.copy()
        n = min(edge, len(soft) // 4)
        if n:
            ramp = np.linspace(0.4, 1, n, dtype=np.float32)
            soft[:n] *= ramp
            soft[-n:] *= ramp[::-1]
        out.append(soft)
    whole = np.concatenate(out)
    return np.asarray(whole / max(1.0, float(np.abs(whole).max())), np.float32)
