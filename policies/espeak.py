"""A synthetic speaker: espeak-ng through ctypes, sound with the exact time of every phoneme.

The library and its data come in the `espeakng-loader` wheel. It keeps global state, so one process-wide
instance does all the work under a lock; a text said again in one process may differ by some milliseconds,
said first in a new process it is the same to the bit. ``python -m facetwin.policies.espeak --help`` writes
a recording with its phonemes to files.
"""

from __future__ import annotations

import argparse
import ctypes
import difflib
import json
import os
import threading
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetwin.policies.alignment import Onsets, Word
from facetwin.twin.errors import FaceTwinError, UsageError

RATE = 16_000

_RETRIEVAL, _SYNCHRONOUS = 0x1, 0x2
_PHONEME_EVENTS, _PHONEME_IPA, _DONT_EXIT = 0x0001, 0x0002, 0x8000
_UTF8 = 1
_EVENT_END, _EVENT_WORD, _EVENT_PHONEME = 0, 1, 7
_RATE_PARAMETER = 1  # espeakRATE, words a minute
_PITCH_PARAMETER = 3
_MELODY_PARAMETER = 4  # espeakRANGE

#: what a phoneme asks of the lips, by the first letter of its IPA name
BILABIAL = frozenset("pbmɓʙ")
LABIODENTAL = frozenset("fvɱʋⱱ")
ROUNDED = frozenset("wuʊoɔyøœɥʍɹʃʒɵʉɒ")
#: vowels, which say little about the lips by themselves and are no controls
OPEN = frozenset("aɑæɐeɛəɜɘɚɝiɪɨʌɤɯ")
_PUNCTUATION = ".,;:!?¡¿…-–—\"'`«»„“”‘’()[]{}。，、！？；：「」『』،؛؟।"
_MARKS = frozenset("ʰʲˠˤʷː̩̃ˈˌ̪'-^0123456789")


@dataclass(frozen=True)
class Phoneme:
    """A sound in IPA and its time in s; an empty name is a pause."""

    name: str
    start: float
    end: float


@dataclass(frozen=True)
class Speech:
    """What was said: samples float32 [shape=(n,), -1..1] at 16 kHz, its phonemes and its words."""

    text: str
    language: str
    samples: NDArray[np.float32]
    phonemes: tuple[Phoneme, ...]
    words: tuple[Word, ...] = ()

    @property
    def duration(self) -> float:
        """Length in s."""
        return len(self.samples) / RATE

    def onsets(self) -> Onsets:
        """Onsets by what the sounds ask of the lips; see `phoneme_onsets`."""
        return phoneme_onsets(self.phonemes)


def speak(
    text: str, language: str = "en-us", *, speed: int = 160, pitch: int = 50, melody: int = 50
) -> Speech:
    """Say a text.

    Parameters
    ----------
    text : what to say; raises `UsageError` when there is nothing in it that can be said
    language : language of espeak-ng, and a voice after a plus ("en-us", "fr", "cmn", "en-gb+f3"); see
        `languages` and `voices`
    speed : words a minute, 80 to 450
    pitch, melody : height of the voice and how far it rises and falls, 0 to 100
    """
    if not text.strip():
        raise UsageError("nothing to say", where="text", found=text, hint="give a sentence")
    if not 80 <= speed <= 450:
        raise UsageError("no such speed", where="speed", found=speed, expected="80 to 450 words a minute")
    for name, value in (("pitch", pitch), ("melody", melody)):
        if not 0 <= value <= 100:
            raise UsageError(f"no such {name}", where=name, found=value, expected="0 to 100")
    pcm, rate, phonemes, words = _engine().say(text, language, speed, pitch, melody)
    if not len(pcm) or not any(p.name for p in phonemes):
        raise UsageError(
            "nothing in it that can be said", where="text", found=text, hint=f"is it in language {language}?"
        )
    import soxr

    samples = soxr.resample(pcm.astype(np.float32) / 32768, rate, RATE).astype(np.float32)
    return Speech(text, language, samples, phonemes, words)


def languages() -> dict[str, str]:
    """Language codes and their names, e.g. {"fr-fr": "French (France)", …}."""
    return dict(_engine().voices)


def voices() -> tuple[str, ...]:
    """Voices (espeak-ng calls them variants) that go with every language after a plus: "f1", "m3", …"""
    return _engine().variants


def phoneme_onsets(phonemes: tuple[Phoneme, ...]) -> Onsets:
    """Onsets by what sounds ask of the lips.

    Controls are consonants that leave the lips free (t, k, s, n, l, …), but not those beside a bilabial,
    labiodental or rounded sound, whose lips reach over.
    """
    kinds = [_kind(p.name) for p in phonemes]
    times: dict[str, list[float]] = {"bilabial": [], "rounded": [], "labiodental": [], "control": []}
    for k, (phoneme, kind) in enumerate(zip(phonemes, kinds)):
        if kind == "control":
            near = kinds[max(0, k - 1) : k + 2]
            if {"bilabial", "labiodental", "rounded", "pause"} & set(near):
                continue
        if kind in times:
            times[kind].append(phoneme.start)
    return Onsets(**{name: tuple(values) for name, values in times.items()})


def _whole(phonemes: tuple[Phoneme, ...]) -> tuple[Phoneme, ...]:
    """Marks that came as sounds of their own (softness of Russian consonants) joined to what they mark."""
    joined: list[Phoneme] = []
    for phoneme in phonemes:
        if joined and joined[-1].name and phoneme.name and not set(phoneme.name) - _MARKS:
            joined[-1] = Phoneme(joined[-1].name + phoneme.name, joined[-1].start, phoneme.end)
        else:
            joined.append(phoneme)
    return tuple(joined)


def _words(
    text: str, events: list[tuple[int, int, int]], phonemes: tuple[Phoneme, ...], rate: int
) -> tuple[Word, ...]:
    """Words with their times, of events (sample, place in the text from 1, letters).

    espeak says some pairs as one ("at a") and a number in several pieces: pairs are parted at a phoneme, by
    letters, and a number is one word.
    """
    spans: list[tuple[int, float]] = []  # place, s
    covered = 0
    for sample, at, letters in events:
        if at - 1 >= covered:
            spans.append((at - 1, sample / rate))
        covered = max(covered, at - 1 + letters)
    words: list[Word] = []
    spoken = [p for p in phonemes if p.name]
    for k, (at, start) in enumerate(spans):
        last = k + 1 == len(spans)
        stop = max((p.end for p in spoken), default=start) if last else spans[k + 1][1]
        inside = [p for p in spoken if start - 1e-6 <= p.start < stop - 1e-6]
        pieces = text[at : None if last else spans[k + 1][0]].split()
        pieces = [piece.strip(_PUNCTUATION) for piece in pieces]
        pieces = [piece for piece in pieces if piece]
        letters, said = sum(map(len, pieces)), 0
        for piece in pieces:
            first = round(said / letters * len(inside))
            said += len(piece)
            own = inside[first : round(said / letters * len(inside))]
            if own:
                words.append(Word(piece, own[0].start, own[-1].end))
    return tuple(words)


def _kind(name: str) -> str:
    letters = [c for c in unicodedata.normalize("NFD", name) if c.isalpha() and c not in "ʰʲˠˤ"]
    if not letters:
        return "pause"
    for kind, members in (
        ("bilabial", BILABIAL),
        ("labiodental", LABIODENTAL),
        ("rounded", ROUNDED),
        ("vowel", OPEN),
    ):
        if letters[0] in members:
            return kind
    return "control"


class _Id(ctypes.Union):
    _fields_ = (
        ("number", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("string", ctypes.c_ubyte * 8),  # not c_char: eight bytes need no terminator
    )


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


class _Voice(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.POINTER(ctypes.c_char)),  # a priority byte, then the code, zero-ended
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("xx1", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


class _Engine:
    """The one instance of the library in this process."""

    def __init__(self) -> None:
        import espeakng_loader

        try:
            self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        except OSError as why:
            raise FaceTwinError(
                "espeak-ng does not load", found=str(why), hint="reinstall espeakng-loader"
            ) from None
        data = espeakng_loader.get_data_path().encode()
        options = _PHONEME_EVENTS | _PHONEME_IPA | _DONT_EXIT
        self.rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, options)
        if self.rate <= 0:
            raise FaceTwinError("espeak-ng does not start", found=self.rate, hint="reinstall espeakng-loader")
        self._lock = threading.Lock()
        self._sound: list[NDArray[np.int16]] = []
        self._events: list[tuple[int, str]] = []
        self._words: list[tuple[int, int, int]] = []  # sample, place in the text, letters
        self._callback = _CALLBACK(self._collect)  # kept alive: the library holds no reference
        self._library.espeak_SetSynthCallback(self._callback)
        size, uint = ctypes.c_size_t, ctypes.c_uint
        pointer = ctypes.c_void_p
        self._library.espeak_Synth.argtypes = (
            ctypes.c_char_p, size, uint, ctypes.c_int, uint, uint, pointer, pointer,
        )  # fmt: skip
        self._library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
        self._files: dict[str, str] = {}
        self.voices = self._list_voices()
        folder = Path(espeakng_loader.get_data_path()) / "voices" / "!v"
        self.variants = tuple(sorted(p.name for p in folder.iterdir())) if folder.is_dir() else ()

    def say(
        self, text: str, voice: str, speed: int, pitch: int, melody: int
    ) -> tuple[NDArray[np.int16], int, tuple[Phoneme, ...], tuple[Word, ...]]:
        language, plus, variant = voice.partition("+")
        name = self._files.get(language, language) + plus + variant  # "en-gb" is a code, not a file's name
        if plus and variant not in self.variants:  # the library would quietly take the plain voice
            close = difflib.get_close_matches(variant, self.variants, n=4, cutoff=0.3) or self.variants[:8]
            raise UsageError(
                "no such voice", where="language", found=voice, hint=f"after the plus: {', '.join(close)}"
            )
        with self._lock:
            # a refused name leaves the voice of the last call in place
            if not voice.strip() or self._library.espeak_SetVoiceByName(name.encode()) != 0:
                raise UsageError("no such voice", where="language", found=voice, hint=self._near(voice))
            self._library.espeak_SetParameter(_RATE_PARAMETER, speed, 0)
            self._library.espeak_SetParameter(_PITCH_PARAMETER, pitch, 0)
            self._library.espeak_SetParameter(_MELODY_PARAMETER, melody, 0)
            self._sound, self._events, self._words = [], [], []
            raw = text.encode() + b"\0"
            code = self._library.espeak_Synth(raw, len(raw), 0, 1, 0, _UTF8, None, None)
            if code != 0:
                raise FaceTwinError("espeak-ng cannot say it", where="text", found=f"return code {code}")
            self._library.espeak_Synchronize()
            pcm = np.concatenate(self._sound) if self._sound else np.zeros(0, np.int16)
            events = sorted(self._events, key=lambda event: event[0])
            begun = list(self._words)
        ends = [sample for sample, _ in events[1:]] + [len(pcm)]
        phonemes = tuple(
            Phoneme(name, sample / self.rate, min(end, len(pcm)) / self.rate)
            for (sample, name), end in zip(events, ends)
            if not name.startswith("(")  # a change of language, not a sound
        )
        phonemes = _whole(phonemes)
        words = _words(text, begun, phonemes, self.rate)
        return pcm, self.rate, phonemes, words

    def _collect(self, wave: ctypes._Pointer, count: int, events: ctypes._Pointer) -> int:
        if wave and count > 0:
            self._sound.append(np.ctypeslib.as_array(wave, (count,)).copy())
        k = 0
        while events[k].type != _EVENT_END:
            if events[k].type == _EVENT_PHONEME:
                name = bytes(events[k].id.string).split(b"\0")[0].decode("utf-8", "ignore")
                self._events.append((events[k].sample, name.strip("_: ")))
            elif events[k].type == _EVENT_WORD:
                self._words.append((events[k].sample, events[k].text_position, events[k].length))
            k += 1
        return 0

    def _list_voices(self) -> dict[str, str]:
        found: dict[str, str] = {}
        voices = self._library.espeak_ListVoices(None)
        k = 0
        while voices[k]:
            voice = voices[k].contents
            code = ctypes.string_at(ctypes.addressof(voice.languages.contents) + 1).decode("utf-8", "replace")
            if code not in found:
                found[code] = (voice.name or b"").decode("utf-8", "replace")
                self._files[code] = (voice.identifier or b"").decode("utf-8", "replace")
            k += 1
        return dict(sorted(found.items()))

    def _near(self, voice: str) -> str:
        close = difflib.get_close_matches(voice.lower(), self.voices, n=4, cutoff=0.4)
        by_name = [code for code, name in self.voices.items() if voice and voice.lower() in name.lower()]
        near = list(dict.fromkeys([*by_name, *close]))[:6] or list(self.voices)[:8]
        return f"near ones: {', '.join(near)}"


@cache
def _engine() -> _Engine:
    return _Engine()


def write(said: Speech, path: str | Path) -> None:
    """Save a recording as 16-bit wav, and text and phonemes [name, start, end] as JSON beside it."""
    import soundfile

    path = Path(path)
    facts = {
        "text": said.text,
        "language": said.language,
        "rate": RATE,
        "seconds": round(said.duration, 4),
        "made_with": "espeak-ng (espeakng-loader)",
        "phonemes": [[p.name, round(p.start, 4), round(p.end, 4)] for p in said.phonemes],
    }
    note = path.with_suffix(".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    pcm = np.round(np.clip(said.samples, -1, 1) * 32767).astype(np.int16)
    soundfile.write(f"{path}.part", pcm, RATE, format="WAV", subtype="PCM_16")
    Path(f"{note}.part").write_text(json.dumps(facts, ensure_ascii=False, indent=1) + "\n", "utf-8")
    os.replace(f"{path}.part", path)
    os.replace(f"{note}.part", note)


def read_phonemes(path: str | Path) -> tuple[Phoneme, ...]:
    """Phonemes of a JSON that `write` made."""
    try:
        rows = json.loads(Path(path).read_text("utf-8"))["phonemes"]
        return tuple(Phoneme(str(name), float(start), float(end)) for name, start, end in rows)
    except (OSError, ValueError, KeyError, TypeError) as why:
        raise FaceTwinError("not a list of phonemes", where=path, found=str(why)) from None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Say a text into a wav file, its phonemes into a JSON beside it."
    )
    parser.add_argument("text")
    parser.add_argument("--out", type=Path, required=True, help="name of the .wav")
    parser.add_argument("--language", default="en-us")
    parser.add_argument("--speed", type=int, default=160, help="words a minute")
    options = parser.parse_args()
    write(speak(options.text, options.language, speed=options.speed), options.out)
