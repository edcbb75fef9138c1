"""Forced alignment without weights: when was each word and phoneme of a known text said?

espeak-ng says the text, at about the pace of the recording; both sounds become cepstra, and a dynamic
time warp lays the recording over the synthetic one (the way of aeneas, A. Pettarin 2015). Silence may
stand before, after and between words and costs nothing there; elsewhere a warp that dwells or skips pays.
Times are espeak's own: a stop begins at its burst, its closure belongs to the sound before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetwin.policies import espeak
from facetwin.policies.alignment import Word
from facetwin.policies.espeak import Phoneme
from facetwin.twin.errors import FaceTwinError, UsageError

Floats = NDArray[np.float32]

#: frame step and window of the cepstra, s
STEP, WINDOW = 0.010, 0.025
BANDS, CEPSTRA = 32, 13
#: longest recording, s: time and memory grow with its square
LONGEST = 180.0
#: what a frame pays for dwelling on a frame of the voice, and for skipping one (units of the distance)
DWELL, SKIP = 0.25, 0.2
#: weight of slopes beside cepstra, and of the difference in level
SLOPE, LEVEL = 0.6, 1.0
#: what a frame in a pause costs, in its distance from the noise
PAUSE = 0.9
#: a word that begins with a stop begins with its closure, so long before the burst, s
CLOSURE = 0.05
STOPS = frozenset("pbtdkɡgqɢcɟʈɖɓɗɠʄ")


@dataclass(frozen=True)
class Alignment:
    """Words and phonemes of a recording with their times in s, and the mean distance of the warp.

    `cost` says how alike the two sounds are along the path: about 1 where text and sound belong together.
    """

    words: tuple[Word, ...]
    phonemes: tuple[Phoneme, ...]
    cost: float


def align(
    samples: ArrayLike, text: str, language: str = "en-us", *, words: Sequence[Word] | None = None
) -> Alignment:
    """Times of the words and phonemes of `text` in a recording.

    Parameters
    ----------
    samples : float [shape=(n,), -1..1], mono 16 kHz, at most 180 s
    text : what is said, all of it and nothing else; pauses need no mark
    language : language of espeak-ng
    words : known times of the words, if any: then only the phonemes are looked for, within them

    Raises
    ------
    UsageError : empty text, unknown language, sound too long or too short for the text
    FaceTwinError : nothing to be heard
    """
    sound = np.asarray(samples, np.float32)
    if sound.ndim != 1 or not np.isfinite(sound).all():
        raise FaceTwinError("not sound", where="align()", found=f"shape {sound.shape}", expected="mono (n,)")
    seconds = len(sound) / espeak.RATE
    if seconds > LONGEST:
        raise UsageError(
            "too long to align at once", found=f"{seconds:.0f} s", expected=f"at most {LONGEST:.0f} s",
            hint="cut it at pauses",
        )  # fmt: skip
    if not len(sound) or np.abs(sound).max() < 1e-4:
        raise FaceTwinError("nothing to be heard in it", found=f"{seconds:.1f} s of silence")
    mel = mel_power(sound)
    noise = np.quantile(mel, 0.1, axis=0) + 1e-9  # (BANDS,)
    speaking = _level(mel, noise)
    said = _at_pace_of(float((speaking > 0.4).sum()) * STEP, text, language)
    if len(mel) < 0.2 * len(said.samples) / espeak.RATE / STEP:
        raise UsageError(
            "too short for this text", found=f"{seconds:.1f} s", expected=f"about {said.duration:.1f} s",
            hint="is it the text of this recording?",
        )  # fmt: skip
    voice = mel_power(said.samples)
    gain = np.quantile(mel.sum(1), 0.9) / np.quantile(voice.sum(1), 0.9)
    states, pauses = _states(said, len(voice))
    own, silence = cepstra(np.maximum(mel, noise), noise)
    other, _ = cepstra(gain * voice + noise, noise)  # as if it were said in the same room
    level = _level(gain * voice + noise, noise)
    cost = _distances(own, other[states])  # (frames, states)
    cost += LEVEL * np.abs(speaking[:, None] - level[states])
    still = _distances(own, silence[None])[:, 0] + LEVEL * speaking
    cost[:, pauses] = (PAUSE * still)[:, None]
    if words is not None:
        _pin(cost, states, pauses, said, words)
    path = _warp()(cost.astype(np.float32), pauses, np.float32(DWELL), np.float32(SKIP))  # (frames,)
    return _read(path, states, pauses, said, seconds, float(cost[np.arange(len(path)), path].mean()))


def mel_power(samples: Floats) -> NDArray[np.float64]:
    """Power in mel bands: float64 [shape=(n / 160, 32)]."""
    power = _power(samples, round(STEP * espeak.RATE), round(WINDOW * espeak.RATE))
    return np.asarray(power @ _bank(), np.float64)


def cepstra(mel: NDArray[np.floating], noise: NDArray[np.floating]) -> tuple[Floats, Floats]:
    """Cepstra and their slopes (n, 26), and those of the noise alone (26,).

    Each cepstrum has zero mean and unit spread over what is well above the noise, so that voices compare.
    """
    k = np.arange(BANDS) + 0.5
    basis = np.cos(np.pi / BANDS * k[:, None] * np.arange(CEPSTRA))  # (BANDS, CEPSTRA)
    c = np.log(mel) @ basis
    loud = _level(mel, noise) > 0.4
    loud = loud if loud.sum() > 10 else np.ones(len(c), bool)
    mean, spread = c[loud].mean(0), c[loud].std(0) + 1e-3
    still = (np.log(noise) @ basis - mean) / spread
    c = (c - mean) / spread
    padded = np.pad(c, ((2, 2), (0, 0)), "edge")
    slope = padded[4:] * 2 + padded[3:-1] - padded[1:-3] - padded[:-4] * 2  # (n, CEPSTRA)
    both = np.concatenate([c, SLOPE * slope / (slope[loud].std(0) + 1e-3)], 1)
    return both.astype(np.float32), np.concatenate([still, 0 * still]).astype(np.float32)


def _power(samples: Floats, hop: int, window: int) -> NDArray[np.floating]:
    padded = np.concatenate([np.zeros(window // 2), samples, np.zeros(window)]).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop][: max(1, len(samples) // hop)]
    frames = frames - 0.97 * np.pad(frames, ((0, 0), (1, 0)), "edge")[:, :-1]  # lifts the upper formants
    spectrum: NDArray[np.complexfloating] = np.fft.rfft(frames * np.hanning(window), 512)
    return np.asarray(np.abs(spectrum) ** 2, np.float64)


@cache
def _bank() -> NDArray[np.floating]:
    import librosa

    return librosa.filters.mel(sr=espeak.RATE, n_fft=512, n_mels=BANDS, fmin=80, fmax=7600).T


def _level(mel: NDArray[np.floating], noise: NDArray[np.floating]) -> NDArray[np.floating]:
    """Level between the noise (0) and loud speech (1) of each frame [shape=(n,)], mean over 50 ms."""
    over = np.log(np.maximum(mel / noise, 1)).mean(1)
    over = np.convolve(np.pad(over, 2, "edge"), np.ones(5) / 5, "valid")
    return np.clip(over / max(float(np.quantile(over, 0.9)), 1.0), 0, 1)


def _at_pace_of(speaking: float, text: str, language: str) -> espeak.Speech:
    """The text in espeak's voice, as long as the recording speaks (s), as far as speed goes."""
    said = espeak.speak(text, language, speed=160)
    own = sum(p.end - p.start for p in said.phonemes if p.name)
    speed = int(np.clip(160 * own / max(speaking, 0.1), 90, 320))
    return said if abs(speed - 160) < 12 else espeak.speak(text, language, speed=speed)


def _states(said: espeak.Speech, frames: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Frames of the voice in order, a pause put between words; which states are pauses."""
    breaks = {round(w.start / STEP) for w in said.words}
    silent = np.ones(frames, bool)
    for p in said.phonemes:
        if p.name:
            silent[max(0, round(p.start / STEP) - 5) : round(p.end / STEP)] = False
    states, pauses = [0], [True]
    for k in range(frames):
        if k in breaks and not pauses[-1]:
            states.append(k)
            pauses.append(True)
        if silent[k]:  # the voice's own pauses are pauses of any length
            if not pauses[-1]:
                states.append(k)
                pauses.append(True)
            continue
        states.append(k)
        pauses.append(False)
    if not pauses[-1]:
        states.append(frames - 1)
        pauses.append(True)
    return np.array(states), np.array(pauses)


def _distances(a: Floats, b: Floats) -> NDArray[np.float32]:
    """Root mean square distance of all frames of a from all of b: float32 [shape=(len(a), len(b))]."""
    square = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * (a @ b.T)
    return np.sqrt(np.maximum(square, 0) / a.shape[1]).astype(np.float32)


def _pin(
    cost: NDArray[np.float32],
    states: NDArray[np.intp],
    pauses: NDArray[np.bool_],
    said: espeak.Speech,
    words: Sequence[Word],
) -> None:
    """Make it dear to say a word at another time than it was said."""
    if len(words) != len(said.words):
        raise UsageError(
            "other words than the text's", found=f"{len(words)} words", expected=f"{len(said.words)}",
            hint="numbers and abbreviations must be spelt as they are said",
        )  # fmt: skip
    times = np.arange(len(cost)) * STEP
    for word, own in zip(words, said.words):
        mine = (states >= round(own.start / STEP)) & (states < round(own.end / STEP)) & ~pauses
        away = (times < word.start - 0.02) | (times > word.end + 0.02)
        cost[np.ix_(away, mine)] += 5.0


@cache
def _warp() -> Any:
    import numba

    return numba.njit(cache=True)(_warp_python)


def _warp_python(
    cost: NDArray[np.float32], pauses: NDArray[np.bool_], dwell: np.float32, skip: np.float32
) -> NDArray[np.int64]:
    """State of each frame on the cheapest path from the first pause to the last [shape=(frames,)].

    From frame to frame a path stays (and pays `dwell`, but in a pause), goes on, or skips one or two states
    (and pays `skip` each, but for a pause).
    """
    frames, states = cost.shape
    best = np.full(states, np.inf, np.float32)
    back = np.zeros((frames, states), np.uint8)
    best[0] = cost[0, 0]
    best[1] = cost[0, 1]
    for t in range(1, frames):
        for s in range(states - 1, -1, -1):
            price = best[s] if pauses[s] else best[s] + dwell
            move = 0
            fee = np.float32(0)
            for step in range(1, 4):
                if s - step < 0:
                    break
                if step > 1 and not pauses[s - step + 1]:
                    fee += skip
                if best[s - step] + fee < price:
                    price = best[s - step] + fee
                    move = step
            best[s] = price + cost[t, s]
            back[t, s] = move
    path = np.zeros(frames, np.int64)
    path[-1] = states - 1 if best[states - 1] <= best[states - 2] else states - 2
    for t in range(frames - 1, 0, -1):
        path[t - 1] = path[t] - back[t, path[t]]
    return path


def _read(
    path: NDArray[np.int64],
    states: NDArray[np.intp],
    pauses: NDArray[np.bool_],
    said: espeak.Speech,
    seconds: float,
    cost: float,
) -> Alignment:
    """Times in the recording of what the voice said."""
    frames = np.arange(len(path))
    sounding = ~pauses[path]
    place = states[path][sounding]  # frame of the voice, rising
    at = frames[sounding]
    if not len(at):
        raise FaceTwinError("the text is not in the sound", hint="is it the text of this recording?")

    def first(time: float) -> float:
        """When the recording comes to a time of the voice."""
        k = min(int(np.searchsorted(place, round(time / STEP), "left")), len(at) - 1)
        return float(at[k]) * STEP

    def last(time: float) -> float:
        """When the recording has left what the voice says before a time."""
        k = max(int(np.searchsorted(place, round(time / STEP), "left")) - 1, 0)
        return min(float(at[k] + 1) * STEP, seconds)

    spoken = [p for p in said.phonemes if p.name]
    phonemes: list[Phoneme] = []
    for p in spoken:
        start, end = first(p.start), last(p.end)
        start = max(start, phonemes[-1].end if phonemes else 0.0)
        end = max(end, start)
        if phonemes and start - phonemes[-1].end > 1.5 * STEP:
            phonemes.append(Phoneme("", phonemes[-1].end, start))
        phonemes.append(Phoneme(p.name, start, end))
    words: list[Word] = []
    for w in said.words:
        inside = [p for p in spoken if w.start - 1e-6 <= p.start < w.end - 1e-6]
        if inside:
            start, end = first(inside[0].start), last(inside[-1].end)
            if inside[0].name.lstrip("ˈˌ")[:1] in STOPS:
                start = max(start - CLOSURE, words[-1].start if words else 0.0)
            if words and words[-1].end > start:
                words[-1] = Word(words[-1].text, words[-1].start, start)
            words.append(Word(w.text, start, max(end, start)))
    return Alignment(tuple(words), tuple(phonemes), cost)
