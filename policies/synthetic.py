"""A synthetic talker: text in any language of espeak-ng to sound, phonemes and the landmarks of a face.

A *talker* is a voice, a way of speaking and of moving, and a face of its own, all drawn from one seed. What
comes out is a `Clip` as `facetwin track` would make it, but with known truth: the articulation of
`articulation` on a rest face, and the sound that was said.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from facetwin import assets
from facetwin.policies import espeak
from facetwin.policies.articulation import Style, articulate
from facetwin.policies.dataset import FPS, RATE, Clip
from facetwin.policies.espeak import Phoneme
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.landmarks import align, canonical, indices

Floats = NDArray[np.float32]

#: languages with sentences of their own; the ten of TEST_LANGUAGES are never trained on
TRAINING_LANGUAGES = (
    "en-us", "en-gb", "nl", "pt", "pl", "tr", "sv", "fi", "hu", "cs", "el", "id", "hi", "ro", "da", "uk",
    "ca", "hr", "vi", "sw", "ta", "fa",
)  # fmt: skip
TEST_LANGUAGES = ("fr", "ja", "ko", "es", "it", "de", "ru", "cmn", "he", "ar")
#: voices of espeak-ng ("" is its plain one); those of TEST_VOICES are left out of training whole
TRAIN_VOICES = (
    "", "m1", "m2", "m4", "m5", "m7", "m8", "f1", "f3", "f4", "klatt", "klatt3", "klatt5", "Alex", "Alicia",
    "Andy", "Annie", "Denis", "Gene", "Hugo", "Jacky", "Lee", "Michael", "Mike", "Nguyen", "Reed", "Storm",
    "adam", "anika", "aunty", "belinda", "boris", "caleb", "david", "ed", "grandma", "iven2", "iven4",
    "marcelo", "michel", "norbert", "pablo", "quincy", "rob", "sandro", "steph", "travis", "zac", "whisper",
)  # fmt: skip
TEST_VOICES = ("m3", "m6", "f2", "f5", "klatt2", "klatt4", "Andrea", "Diogo", "Mario", "linda", "shelby",
               "grandpa", "paul", "victor", "ian", "croak", "whisperf")  # fmt: skip
#: longest clip, s
LONGEST = 20.0
#: words that are begun before one is taken from the texts: of long or few words none may come out
TRIES = 200


@dataclass(frozen=True)
class Talker:
    """Someone who talks.

    Attributes
    ----------
    name, language, voice : of espeak-ng, "" its plain voice
    speed, pitch, melody : words a minute, 0 to 100, 0 to 100
    style : how the mouth moves
    jitter : spread of a sound's time in the face against the voice, s
    rest : float32 [shape=(478, 3), u], the face, shut and silent
    level : gain of the sound, dB
    room : steady noise under it, dB of full scale
    """

    name: str
    language: str
    voice: str
    speed: int
    pitch: int
    melody: int
    style: Style
    jitter: float
    rest: Floats
    level: float
    room: float


def make_talker(language: str, voice: str = "", seed: int = 0, name: str = "") -> Talker:
    """A talker drawn from a seed; raises `UsageError` for a language or voice that espeak-ng has not."""
    check_voice(language, voice)
    name = name or f"{language}{'+' + voice if voice else ''}.{seed}"
    random = np.random.default_rng([seed, zlib.crc32(f"{language}+{voice}".encode())])
    style = Style(
        gains=tuple(float(g) for g in np.exp(random.normal(0, 0.08, 8))),
        amplitude=float(np.exp(random.normal(0, 0.15)).clip(0.7, 1.4)),
        rounding=float(np.exp(random.normal(0, 0.15)).clip(0.7, 1.4)),
        # /u/ as narrow as the table's talker makes his /ɔ/ and /w/
        firm=0.0 if language.startswith("en") else float(random.uniform(0.8, 1.8)),
        reach=float(np.exp(random.normal(0, 0.12)).clip(0.75, 1.35)),
        lead=float(random.normal(0, 0.008)),
        asymmetry=float(random.normal(0, 0.04)),
        hold=float(random.uniform(0.045, 0.07)),
    )
    return Talker(
        name, language, voice, int(np.clip(random.normal(165, 24), 110, 240)),
        int(np.clip(random.normal(50, 14), 15, 85)), int(np.clip(random.normal(50, 18), 10, 95)),
        style, float(random.uniform(0, 0.012)), make_face(random), float(random.uniform(-12, 3)),
        float(random.uniform(-85, -55)),
    )  # fmt: skip


def check_voice(language: str, voice: str = "") -> None:
    """Raise `UsageError` for a language or voice that espeak-ng does not have."""
    espeak.speak("a", language if not voice else f"{language}+{voice}", speed=300)


def make_face(random: np.random.Generator, size: float = 1.0) -> Floats:
    """Another identity's face at rest: float32 [shape=(478, 3), u], lips shut, eyes 1 u apart.

    The canonical face, its lips brought together, with width and height of the lower face, jaw, mouth,
    lips, nose and depth drawn independently (spread 4 to 10 %, times `size`), a smooth field on top.
    """
    face = _shut().copy()

    def spread(sd: float) -> float:
        return float(random.normal(0, sd * size))

    x, y = face[:, 0].copy(), face[:, 1].copy()
    lips = face[indices("lips40")].mean(0)
    below = np.clip(-y / 0.8, 0, 1.5)[:, None]  # 0 at the eyes, 1 at the mouth
    near_mouth = np.exp(-((x / 0.42) ** 2 + ((y - lips[1]) / 0.28) ** 2))
    face[:, 0] *= 1 + spread(0.05) * below[:, 0]
    face[:, 1] *= 1 + spread(0.05)
    face[:, 1] += spread(0.05) * np.clip(-(y + 0.9) / 0.4, 0, 1)  # chin
    face[:, 0] += (x - lips[0]) * spread(0.08) * near_mouth  # width of the mouth
    face[:, 1] += (y - lips[1]) * spread(0.12) * near_mouth  # fullness of the lips
    face[:, 2] *= 1 + spread(0.06)
    face[:, 2] += spread(0.04) * near_mouth
    for axis, sd in ((0, 0.008), (1, 0.01), (2, 0.012)):  # a smooth field, even in x but for a little
        for centre in random.uniform((-0.7, -1.2), (0.7, 0.6), (5, 2)):
            bump = np.exp(-(((x - centre[0]) / 0.35) ** 2 + ((y - centre[1]) / 0.35) ** 2))
            other = np.exp(-(((x + centre[0]) / 0.35) ** 2 + ((y - centre[1]) / 0.35) ** 2))
            face[:, axis] += spread(sd) * (bump + (-1 if axis == 0 else 1) * other)
    return align(face, upright=True)


def say(talker: Talker, text: str, *, seed: int = 0, name: str = "") -> Clip:
    """A talker says a text: a clip with sound, phonemes and landmarks.

    A pause of .2 to .5 s stands before and after. Raises `UsageError` for a text that cannot be said or takes
    longer than `LONGEST`.
    """
    random = np.random.default_rng([seed, zlib.crc32(text.encode())])
    voice = f"{talker.language}+{talker.voice}" if talker.voice else talker.language
    speech = espeak.speak(text, voice, speed=talker.speed, pitch=talker.pitch, melody=talker.melody)
    if speech.duration > LONGEST:
        raise UsageError(
            "too long for a clip", where="text", found=f"{speech.duration:.0f} s",
            expected=f"at most {LONGEST:.0f} s", hint="a sentence a clip",
        )  # fmt: skip
    before, after = random.uniform(0.2, 0.5, 2)
    frames = int(np.ceil((before + speech.duration + after) * FPS))
    sound = np.zeros(round(frames / FPS * RATE), np.float32)
    at = round(before * RATE)
    sound[at : at + len(speech.samples)] = speech.samples
    sound *= 10 ** (talker.level / 20)
    sound += (10 ** (talker.room / 20) * random.standard_normal(len(sound))).astype(np.float32)
    phonemes = _with_pauses([replace_times(p, at / RATE) for p in speech.phonemes], frames / FPS)
    moved = articulate(
        jittered(phonemes, talker.jitter, random), frames, fps=FPS, style=talker.style,
        rest=talker.rest[indices("speech63")],
    )  # fmt: skip
    face = on_face(talker.rest, moved)
    return Clip(
        name or talker.name, face, np.ones(frames, bool), np.clip(sound, -1, 1), talker.name, talker.language,
        tuple(phonemes),
    )  # fmt: skip


def on_face(rest: Floats, moved: Floats) -> Floats:
    """A rest face (478, 3) with `speech63` displaced (T, 63, 3), the skin between following: (T, 478, 3)."""
    return (rest + np.einsum("ps,tsc->tpc", _skin(), moved, optimize=True)).astype(np.float32)


def jittered(phonemes: Sequence[Phoneme], spread: float, random: np.random.Generator) -> list[Phoneme]:
    """The same sounds in order, their borders moved by chance (s)."""
    moved: list[Phoneme] = []
    shift = 0.0
    for p, later_one in zip(phonemes, [*phonemes[1:], *phonemes[-1:]]):
        room = 0.4 * min(p.end - p.start, later_one.end - later_one.start)
        later = float(np.clip(random.normal(0, spread), -room, room)) if spread else 0.0
        moved.append(Phoneme(p.name, p.start + shift, p.end + later))
        shift = later
    return moved


def replace_times(p: Phoneme, later: float) -> Phoneme:
    """A phoneme moved by some seconds."""
    return Phoneme(p.name, p.start + later, p.end + later)


def sentences() -> dict[str, list[str]]:
    """The project's own sentences by language, for all of TRAINING_LANGUAGES and TEST_LANGUAGES."""
    found: dict[str, list[str]] = json.loads(assets.path("speech", "sentences.json").read_text("utf-8"))
    return found


def read_texts(path: str | Path, languages: Sequence[str]) -> dict[str, list[str]]:
    """Texts by language of a file: lines, for all `languages`, or lines "language<tab>text"."""
    try:
        lines = [line.strip() for line in Path(path).read_text("utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        raise UsageError("no such file", where=path, hint="check the path") from None
    except (OSError, UnicodeDecodeError) as why:
        raise UsageError("not a text", where=path, found=str(why), expected="UTF-8, a line a text") from None
    if not lines:
        raise UsageError("nothing in it", where=path, expected="a line a text")
    texts: dict[str, list[str]] = {}
    for line in lines:
        head, tab, tail = line.partition("\t")
        for language in [head] if tab else languages:
            texts.setdefault(language, []).append(tail if tab else line)
    missing = [language for language in languages if language not in texts]
    if missing:
        raise UsageError("no text in a language", where=path, found=", ".join(missing))
    return texts


def compose(
    texts: Sequence[str], random: np.random.Generator, *, made_up: float = 0.5, invented: float = 0.0
) -> str:
    """One of the texts, or (with probability `made_up`) three to nine of their words in any order.

    A share `invented` of those words is in no text: letters that follow each other as they do in the
    texts. espeak-ng goes by the rules of spelling, so it says them as the language would.
    """
    if random.random() >= made_up:
        return str(texts[random.integers(len(texts))])
    words = _words(tuple(texts))
    chosen = [words[k] for k in random.integers(len(words), size=random.integers(3, 10))]
    if invented:  # nothing is drawn where it is 0: datasets made before stay what they were
        chosen = [invent(texts, random) if random.random() < invented else word for word in chosen]
    if random.random() < 0.25 and len(chosen) > 4:
        chosen[len(chosen) // 2] += ","
    joint = "" if len(words[0]) == 1 and ord(words[0]) > 0x2E80 else " "
    return joint.join(chosen) + random.choice([".", "?", "!"], p=[0.7, 0.2, 0.1])


def invent(texts: Sequence[str], random: np.random.Generator) -> str:
    """A word of two to twelve letters in which each follows the two before it as somewhere in the texts.

    Where words are single letters (Chinese) it is two of them, where all are longer, one of those.
    """
    follow, most, words = _followers(tuple(texts)), 12, _words(tuple(texts))
    if max(map(len, words)) < 2:
        return "".join(str(word) for word in random.choice(words, 2))
    for _ in range(TRIES):
        word = ""
        while len(word) <= most:
            letters = follow[("  " + word)[-2:]]
            letter = letters[random.integers(len(letters))]
            if letter == " ":
                break
            word += letter
        if 2 <= len(word) <= most:
            return word
    return str(random.choice(words))


def talkers_and_texts(
    languages: Sequence[str],
    voices: Sequence[str],
    clips: int,
    *,
    seed: int = 0,
    texts: Mapping[str, Sequence[str]] | None = None,
    each: int = 8,
    made_up: float = 0.5,
    invented: float = 0.0,
) -> Iterator[tuple[Talker, str, str]]:
    """(talker, text, clip name) of a whole dataset; a talker says `each` clips, languages take turns."""
    texts = texts or sentences()
    unknown = [language for language in languages if not texts.get(language)]
    if unknown:
        raise UsageError(
            "no sentences in a language", where="languages", found=", ".join(unknown),
            hint="give texts of your own, or one of " + ", ".join(sentences()),
        )  # fmt: skip
    random = np.random.default_rng(seed)
    order = [voice for _ in range(-(-clips // max(1, len(voices)))) for voice in random.permutation(voices)]
    for k in range(-(-clips // each)):
        language, voice = languages[k % len(languages)], str(order[k])
        talker = make_talker(language, voice, seed * 100_003 + k)
        for n in range(k * each, min((k + 1) * each, clips)):
            text = compose(texts[language], random, made_up=made_up, invented=invented)
            yield talker, text, f"{language}_{voice or 'plain'}_{k:04d}_{n:05d}".replace(" ", "-")


def _with_pauses(phonemes: Sequence[Phoneme], seconds: float) -> list[Phoneme]:
    whole = [Phoneme("", 0.0, phonemes[0].start), *phonemes]
    return [*whole, Phoneme("", phonemes[-1].end, max(seconds, phonemes[-1].end))]


@cache
def _words(texts: tuple[str, ...]) -> list[str]:
    """Words of texts without punctuation; letters where a script has no spaces."""
    words = [w.strip(".,;:!?¿¡？！。，、।؟\"'«»…") for text in texts for w in text.split()]
    words = sorted({w for w in words if w})
    if np.mean([len(w) for w in words]) > 5 and any(0x4E00 <= ord(c) < 0xA000 for c in "".join(words)):
        words = sorted({c for w in words for c in w if 0x4E00 <= ord(c) < 0xA000})
    return words


@cache
def _followers(texts: tuple[str, ...]) -> dict[str, str]:
    """Two letters (spaces before a word's first) to the letters that come after them, a space for the end."""
    found: dict[str, str] = {}
    for word in _words(texts):
        padded = f"  {word.lower()} "
        for k in range(len(padded) - 2):
            found[padded[k : k + 2]] = found.get(padded[k : k + 2], "") + padded[k + 2]
    return found


@cache
def _shut() -> Floats:
    """The canonical face with the lips brought together."""
    from facetwin.policies.articulation import bring_together, gaps

    face = canonical().astype(np.float32).copy()
    ids = indices("speech63")
    gap = gaps(face[ids])
    still = torch.zeros(1, len(ids), 3)
    face[ids] += bring_together(still, torch.from_numpy(gap), torch.ones(1), torch.zeros(1))[0].numpy()
    return face


@cache
def _skin() -> Floats:
    """How far each of the 478 points follows each of `speech63`: float32 [shape=(478, 63)].

    Thin-plate interpolation on the canonical face, with eyes, nose bridge and the face's rim held still,
    and hardly any influence beyond the lower face.
    """
    from scipy.interpolate import RBFInterpolator

    face = canonical()
    moving = indices("speech63")
    still = np.setdiff1d(np.concatenate([
        indices("stable"), indices("right_eye16"), indices("left_eye16"), indices("right_brow10"),
        indices("left_brow10"),
    ]), moving)  # fmt: skip
    known = np.concatenate([moving, still])
    values = np.zeros((len(known), len(moving)))
    values[: len(moving)] = np.eye(len(moving))
    weights = RBFInterpolator(face[known], values, kernel="linear", smoothing=0)(face)
    weights[np.concatenate([indices("right_iris5"), indices("left_iris5")])] = 0
    weights[known] = values
    return weights.astype(np.float32)


def with_style(talker: Talker, **changes: Any) -> Talker:
    """The same talker, moving otherwise (fields of `Style`)."""
    try:
        return replace(talker, style=replace(talker.style, **changes))
    except TypeError as why:
        raise FaceTwinError("no such field of a style", found=str(why)) from None
