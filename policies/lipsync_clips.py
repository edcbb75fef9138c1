"""What the lip-sync benchmark has the robot say: people it never saw, ten languages, and a sung line.

A clip is sound, the motion of the speech points that goes with it, and the times of sounds that ask something
of the lips. People's motion is tracked; that of synthetic speech and song is what its sounds ask for
(`articulation`), so that lips close where they should, whatever a model hears.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetwin.policies import espeak, synthetic
from facetwin.policies.alignment import Onsets, read_align, word_onsets
from facetwin.policies.articulation import articulate
from facetwin.policies.dataset import load_clips
from facetwin.policies.espeak import Speech, phoneme_onsets
from facetwin.policies.singing import sing
from facetwin.policies.speech_shape import STEP
from facetwin.policies.speech_train import rest_face
from facetwin.twin.errors import UsageError
from facetwin.twin.landmarks import indices

Floats = NDArray[np.float32]

#: a sentence in each of ten languages of espeak-ng, with bilabials, rounded vowels and lip-teeth sounds
TEXTS = {
    "en-us": "Bob may fly to Paris with the blue map before Monday.",
    "fr-fr": "Mon papa veut boire un bon café avec beaucoup d'amis.",
    "de": "Peter möchte fünf Äpfel von meinem Baum pflücken.",
    "es": "Mi papá viene con un bonito vaso de vino blanco.",
    "it": "Domani vorrei bere un buon caffè con mia mamma.",
    "ko": "아버지는 바다에서 배를 보고 밥을 먹었습니다.",
    "ar": "ذهب بابا مع ماما إلى بيت كبير فوق الجبل.",
    "ru": "Мама купила пять белых яблок для папы.",
    "cmn": "爸爸妈妈明天要买一个白色的皮包。",
    "ja": "ママはぼくのパンをバスでまえばしまではこびます。",
}
#: where more sentences come from: those of the synthetic speaker; American ones are babbled by the baselines
MORE = {"en-us": "en-gb", "fr-fr": "fr"}
SINGING = "singing"
PEOPLE = "people"


@dataclass(frozen=True)
class LipClip:
    """One thing to say.

    Attributes
    ----------
    name, group : str; groups are rows of the table: "people", a language, "singing"
    samples : float32 [shape=(n,)], mono 16 kHz
    displacement : float32 [shape=(T, 63, 2), u], of `speech63` from a face at rest, 25 a second
    onsets : Onsets, s
    text : str
    """

    name: str
    group: str
    samples: Floats
    displacement: Floats
    onsets: Onsets
    text: str = ""

    def __len__(self) -> int:
        return len(self.displacement)


def people(data: str | Path, align: str | Path | None, count: int) -> list[LipClip]:
    """The first clips of a dataset of tracked people that are seen throughout, on their own rest face.

    `align` is a folder of GRID word alignments; without it these clips say nothing of closures.
    """
    if count < 1:
        return []
    every = load_clips(data)
    rest, ids = rest_face(every), indices("speech63")
    clips: list[LipClip] = []
    for clip in every:
        if clip.seen.all() and len(clips) < count:
            onsets = Onsets()
            if align is not None:
                onsets = word_onsets(read_align(Path(align) / f"{clip.name}.align"))
            moved = (clip.landmarks[:, ids, :2] - rest[ids, :2]).astype(np.float32)
            clips.append(LipClip(clip.name, PEOPLE, clip.samples, moved, onsets))
    return clips


def spoken(languages: Sequence[str], sentences: int = 1) -> list[LipClip]:
    """Sentences in each language, moved as their sounds ask.

    The first is of `TEXTS`, the others of `synthetic.sentences`. Raises `UsageError` for a language that has
    no text, and for more sentences than there are.
    """
    unknown = [language for language in languages if language not in TEXTS]
    if unknown:
        raise UsageError("no text in this language", where="--languages", found=unknown[0],
                         expected=", ".join(TEXTS))  # fmt: skip
    clips = []
    for language in languages:
        texts = [TEXTS[language], *synthetic.sentences()[MORE.get(language, language)]]
        if not 1 <= sentences <= len(texts):
            raise UsageError("not so many sentences", where="--sentences", found=sentences,
                             expected=f"1 to {len(texts)} in {language}")  # fmt: skip
        for k, text in enumerate(texts[:sentences]):
            name = f"{language}-{k + 1}" if k else language
            clips.append(_moved(espeak.speak(text, language, speed=150), language, name))
    return clips


def sung() -> list[LipClip]:
    """The sung line (`facetwin.policies.singing`), moved as its sounds ask."""
    return [_moved(sing(), SINGING)]


def _moved(said: Speech, group: str, name: str = "") -> LipClip:
    frames = -(-len(said.samples) // STEP)
    samples = np.zeros(frames * STEP, np.float32)
    samples[: len(said.samples)] = said.samples
    moved = articulate(said.phonemes, frames)[..., :2]
    return LipClip(name or group, group, samples, moved, phoneme_onsets(said.phonemes), said.text)
