"""Sound without speech, for which a face must rest: noise of any colour, hum, clicks, breath, music.

Each maker takes a generator and a length and gives float32 [shape=(n,), -1..1] at 16 kHz. `TRAINING` makes
what training hears; `UNHEARD` has kinds that it never does, to test with.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

RATE = 16_000

Samples = NDArray[np.float32]
Maker = Callable[[np.random.Generator, int], NDArray[np.floating]]


def noise(random: np.random.Generator, n: int) -> NDArray[np.floating]:
    """Steady noise, its power falling or rising with frequency: violet to brown."""
    return _coloured(random, n, float(random.uniform(-2, 1)))


def hum(random: np.random.Generator, n: int) -> NDArray[np.floating]:
    """Mains or a motor: a low tone with harmonics, a little noise."""
    t = np.arange(n) / RATE
    base = float(random.choice([50, 60, 100, 120]) if random.random() < 0.5 else random.uniform(40, 400))
    out = 0.03 * _coloured(random, n, -1)
    for k in range(1, int(random.integers(2, 12))):
        out += random.uniform(0.2, 1) / k * np.sin(2 * np.pi * base * k * t + random.uniform(0, 6.3))
    return out


def clicks(random: np.random.Generator, n: int) -> NDArray[np.floating]:
    """Keys, knocks, steps: short bursts now and then."""
    out = np.zeros(n)
    at = 0
    while (at := at + int(random.exponential(0.35) * RATE)) < n:
        size = int(random.uniform(0.002, 0.08) * RATE)
        burst = _coloured(random, size, float(random.uniform(-1, 1)))
        burst = burst * np.exp(-5 * np.arange(size) / size) * random.uniform(0.2, 1)
        out[at : at + size] += burst[: n - at]
    return out


def breath(random: np.random.Generator, n: int) -> NDArray[np.floating]:
    """In and out: noise with a broad resonance that swells and falls over a second."""
    out = np.zeros(n)
    at = int(random.uniform(0, 0.5) * RATE)
    while at < n:
        size = int(random.uniform(0.4, 1.8) * RATE)
        swell = np.sin(np.pi * np.linspace(0, 1, size) ** random.uniform(0.5, 2)) ** 2
        voice = _band(random, size, float(random.uniform(300, 2500)), float(random.uniform(0.4, 1.5)))
        out[at : at + size] += (swell * voice * random.uniform(0.3, 1))[: n - at]
        at += size + int(random.uniform(0.1, 1.0) * RATE)
    return out


def chords(random: np.random.Generator, n: int) -> NDArray[np.floating]:
    """A keyboard: chords of struck or held notes with harmonics, in some tempo."""
    out = np.zeros(n + 4 * RATE)
    beat = float(random.uniform(0.15, 0.9))
    struck = random.random() < 0.7
    root = float(random.uniform(80, 350))
    for at in np.arange(0, n / RATE, beat):
        length = int(RATE * (random.uniform(0.5, 2.5) if struck else beat))
        t = np.arange(length) / RATE
        shape = np.exp(-t * random.uniform(1, 6)) if struck else np.minimum(1, np.minimum(t, t[::-1]) / 0.03)
        shape *= np.minimum(1, t / 0.008)
        start = int(at * RATE)
        for step in random.choice([0, 3, 4, 5, 7, 9, 12, 16, 19], int(random.integers(1, 5)), replace=False):
            tone = root * 2 ** ((step + random.choice([0, 0, 5, 7, -5])) / 12)
            bright = random.uniform(0.3, 1.0)
            for k in range(1, int(min(12, 7000 / tone)) + 1):
                part = bright ** (k - 1) * np.sin(2 * np.pi * tone * k * t + random.uniform(0, 6.3))
                out[start : start + length] += shape * part * 0.2
    return out[:n]


def drums(random: np.random.Generator, n: int) -> NDArray[np.floating]:
    """A beat: bass drum, snare, cymbal."""
    out = np.zeros(n + RATE)
    beat = float(random.uniform(0.12, 0.35))
    pattern = random.random((3, 8)) < np.array([[0.35], [0.25], [0.6]])
    for k, at in enumerate(np.arange(0, n / RATE, beat)):
        start = int(at * RATE)
        t = np.arange(RATE // 2) / RATE
        if pattern[0, k % 8]:
            kick = np.exp(-t * 12) * np.sin(2 * np.pi * (50 * t + 6 * (1 - np.exp(-t * 30))))
            out[start : start + len(t)] += kick
        if pattern[1, k % 8]:
            snare = np.exp(-t * 18) * (_coloured(random, len(t), -0.3) + 0.5 * np.sin(2 * np.pi * 190 * t))
            out[start : start + len(t)] += 0.6 * snare
        if pattern[2, k % 8]:
            out[start : start + len(t)] += 0.3 * np.exp(-t * 40) * _coloured(random, len(t), 1)
    return out[:n]


def pipes(random: np.random.Generator, n: int) -> NDArray[np.floating]:
    """Flute, clarinet, organ: held notes of any scale with breath, most without vibrato, slurred or not."""
    out, at, root = np.zeros(n), 0, float(random.uniform(90, 700))
    odd, bright = random.random() < 0.4, float(random.uniform(0.9, 2.5))
    shake, rate = float(random.choice([0, 0, 0.004, 0.012])), float(random.uniform(4, 7.5))
    while at < n:
        size = min(int(random.uniform(0.12, 1.5) * RATE), n - at)
        t = np.arange(size) / RATE
        tone = root * 2 ** (int(random.integers(-7, 13)) / 12)
        slide = 1 + random.normal(0, 0.03) * np.exp(-t * 12)
        phase = 2 * np.pi * np.cumsum(tone * slide * (1 + shake * np.sin(2 * np.pi * rate * t))) / RATE
        parts = range(1, min(16, int(7000 / tone)) + 1, 2 if odd else 1)
        edge = np.minimum(1, np.minimum(t, t[::-1]) / float(random.uniform(0.01, 0.12)))
        breathy = random.uniform(0, 0.15) * _coloured(random, size, -0.3)
        out[at : at + size] = edge * (sum(np.sin(k * phase + k) / k**bright for k in parts) + breathy)
        at += size + int((random.random() < 0.3) * random.uniform(0.05, 0.6) * RATE)
    return out


def whistle(random: np.random.Generator, n: int) -> NDArray[np.floating]:
    """Someone whistles, brakes squeal: one tone that wanders by itself, now and then none."""
    knots = max(4, int(n / RATE * random.uniform(1, 8)))
    wander = np.cumsum(random.normal(0, random.uniform(0.03, 0.35), knots))
    tone = random.uniform(250, 3000) * 2 ** np.clip(
        np.interp(np.linspace(0, knots - 1, n), range(knots), wander), -2, 1.3
    )
    loud = np.interp(
        np.linspace(0, knots - 1, n),
        range(knots),
        (random.random(knots) < 0.75) * random.uniform(0.3, 1, knots),
    )
    phase = 2 * np.pi * np.cumsum(tone) / RATE
    return loud * (np.sin(phase) + random.uniform(0, 0.5) * np.sin(2 * phase)) + 0.003 * _coloured(
        random, n, 0
    )


def crackle(random: np.random.Generator, n: int) -> NDArray[np.floating]:
    """Fire, a gramophone, gravel: pops that ring, from one to a thousand a second."""
    hits = random.random(n) < 10 ** random.uniform(0, 3) / RATE
    pops = np.where(hits, random.standard_normal(n) * random.exponential(1, n) ** 2, 0)
    t = np.arange(int(random.uniform(0.003, 0.05) * RATE)) / RATE
    ring = np.exp(-t * random.uniform(100, 800)) * np.sin(
        2 * np.pi * random.uniform(200, 6500) * t + random.uniform(0, 6.3)
    )
    return np.convolve(pops, ring)[:n] + random.uniform(0, 0.05) * _coloured(random, n, -0.7)


def bells(random: np.random.Generator, n: int) -> NDArray[np.floating]:
    """Bells, glasses, alarms: struck tones whose partials are no harmonics, some again and again."""
    out, at = np.zeros(n + 3 * RATE), int(random.uniform(0, 0.5) * RATE)
    again, tone = random.random() < 0.4, float(random.uniform(250, 3500))
    while at < n:
        t = np.arange(int(random.uniform(0.1, 3) * RATE)) / RATE
        struck = np.zeros(len(t))
        for ratio in (1, *random.uniform(1.2, 6, int(random.integers(1, 7)))):
            if tone * ratio < 7500:
                struck += (
                    random.uniform(0.1, 1)
                    * np.exp(-t * random.uniform(2, 15) * ratio)
                    * np.sin(2 * np.pi * tone * ratio * t)
                )
        out[at : at + len(t)] += struck * random.uniform(0.3, 1)
        at += int((0.25 if again else random.uniform(0.08, 1.2)) * RATE)
        tone = tone if again else float(random.uniform(250, 3500))
    return out[:n]


def traffic(random: np.random.Generator, n: int) -> NDArray[np.floating]:
    """Cars, wind, surf: noise that swells and changes colour within seconds."""
    knots = max(4, int(n / RATE * random.uniform(0.3, 4)))
    at = np.linspace(0, knots - 1, n)
    out = np.zeros(n)
    for _ in range(int(random.integers(1, 4))):
        swell = np.interp(at, range(knots), random.exponential(1, knots))
        out += swell * _band(random, n, float(10 ** random.uniform(2, 3.7)), float(random.uniform(0.3, 2)))
    return out


def song(random: np.random.Generator, n: int) -> NDArray[np.floating]:
    """Chords with a beat."""
    return chords(random, n) + random.uniform(0.3, 1) * drums(random, n)


def siren(random: np.random.Generator, n: int) -> NDArray[np.floating]:
    """A tone that goes up and down; not heard in training."""
    t = np.arange(n) / RATE
    rate, low, high = random.uniform(0.2, 2), random.uniform(300, 700), random.uniform(900, 2500)
    tone = low + (high - low) * (0.5 + 0.5 * np.sin(2 * np.pi * rate * t))
    phase = 2 * np.pi * np.cumsum(tone) / RATE
    return np.sin(phase) + 0.3 * np.sin(2 * phase)


def birds(random: np.random.Generator, n: int) -> NDArray[np.floating]:
    """Chirps over a quiet garden; not heard in training."""
    out = 0.01 * _coloured(random, n + RATE, -1)
    at = 0
    while (at := at + int(random.uniform(0.05, 0.5) * RATE)) < n:
        t = np.arange(int(random.uniform(0.04, 0.2) * RATE)) / RATE
        tone = random.uniform(2500, 6000) + random.uniform(-8000, 8000) * t
        chirp = np.sin(np.pi * t / t[-1]) * np.sin(2 * np.pi * tone * t)
        out[at : at + len(t)] += random.uniform(0.2, 1) * chirp
    return out[:n]


def rain(random: np.random.Generator, n: int) -> NDArray[np.floating]:
    """Thousands of small drops; not heard in training."""
    hits = random.random(n) < random.uniform(0.002, 0.02)
    drops = np.where(hits, random.standard_normal(n) * random.exponential(1, n), 0)
    tail = np.exp(-np.arange(200) / 30) * np.sin(np.arange(200) * random.uniform(0.8, 2))
    return np.convolve(drops, tail)[:n]


def strings(random: np.random.Generator, n: int) -> NDArray[np.floating]:
    """A bowed melody with vibrato; not heard in training."""
    out = np.zeros(n)
    at, tone = 0, float(random.uniform(200, 500))
    while at < n:
        size = min(int(random.uniform(0.2, 0.9) * RATE), n - at)
        t = np.arange(size) / RATE
        phase = 2 * np.pi * np.cumsum(tone * (1 + 0.006 * np.sin(2 * np.pi * 5.5 * t))) / RATE
        edge = np.minimum(1, np.minimum(t, t[::-1]) / 0.04)
        out[at : at + size] = edge * sum(np.sin(k * phase) / k**1.2 for k in range(1, 14))
        at, tone = at + size, tone * 2 ** (random.choice([-4, -2, -1, 1, 2, 3, 5]) / 12)
        tone = min(max(tone, 180.0), 900.0)
    return out


TRAINING: dict[str, Maker] = {
    "noise": noise, "hum": hum, "clicks": clicks, "breath": breath, "chords": chords, "drums": drums,
    "song": song, "pipes": pipes, "whistle": whistle, "crackle": crackle, "bells": bells, "traffic": traffic,
}  # fmt: skip
UNHEARD: dict[str, Maker] = {"siren": siren, "birds": birds, "rain": rain, "strings": strings}


def sound(kind: str, seed: int, seconds: float, decibels: float = -25.0) -> Samples:
    """Sound of a kind, its root mean square at that level (dB of full scale): float32 [shape=(n,)]."""
    random = np.random.default_rng([seed, zlib.crc32(kind.encode())])
    made = np.asarray((TRAINING | UNHEARD)[kind](random, round(seconds * RATE)), np.float64)
    made *= 10 ** (decibels / 20) / max(float(np.sqrt((made**2).mean())), 1e-9)
    return np.clip(made, -1, 1).astype(np.float32)


def _coloured(random: np.random.Generator, n: int, slope: float) -> NDArray[np.floating]:
    """Noise of unit power whose amplitude goes with frequency ** slope."""
    spectrum = np.fft.rfft(random.standard_normal(n))
    spectrum *= np.maximum(np.fft.rfftfreq(n, 1 / RATE), 40.0) ** slope
    out = np.fft.irfft(spectrum, n)
    return out / max(float(out.std()), 1e-12)


def _band(random: np.random.Generator, n: int, centre: float, octaves: float) -> NDArray[np.floating]:
    """Noise of unit power round a frequency (Hz)."""
    spectrum = np.fft.rfft(random.standard_normal(n))
    far = np.log2(np.maximum(np.fft.rfftfreq(n, 1 / RATE), 20.0) / centre) / octaves
    out = np.fft.irfft(spectrum / (1 + far**2) ** 1.5, n)
    return out / max(float(out.std()), 1e-12)
