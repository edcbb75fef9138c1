"""The synthetic speaker: exact times, many languages, unknown voices refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facetwin.policies import espeak
from facetwin.twin.errors import UsageError


def test_phonemes_have_times() -> None:
    said = espeak.speak("Bob put a big pie on the table.")
    assert said.samples.dtype == np.float32
    assert np.abs(said.samples).max() > 0.1
    names = [p.name for p in said.phonemes if p.name]
    assert names[0] == "b"
    assert names.count("p") >= 2
    starts = [p.start for p in said.phonemes]
    assert starts == sorted(starts)
    assert starts[0] >= 0
    assert said.phonemes[-1].end <= said.duration + 1e-3
    onsets = said.onsets()
    assert len(onsets.bilabial) == 6
    assert len(onsets.control) >= 3


def test_a_burst_is_heard_where_the_event_says() -> None:
    said = espeak.speak("at a pie")
    onset = said.onsets().bilabial[0]
    power = np.convolve(said.samples**2, np.ones(160) / 160, "same")
    closure = power[round((onset + 0.005) * 16_000) : round((onset + 0.03) * 16_000)].min()
    after = power[round((onset + 0.05) * 16_000) : round((onset + 0.2) * 16_000)].max()
    assert after > 20 * closure


def test_the_same_text_has_the_same_phonemes() -> None:
    a, b = espeak.speak("hello Bob"), espeak.speak("hello Bob")
    assert [p.name for p in a.phonemes] == [p.name for p in b.phonemes]
    assert abs(a.duration - b.duration) < 0.05


def test_files_there_and_back(tmp_path: Path) -> None:
    said = espeak.speak("a pumpkin pie")
    espeak.write(said, tmp_path / "pie.wav")
    phonemes = espeak.read_phonemes(tmp_path / "pie.json")
    assert espeak.phoneme_onsets(phonemes).bilabial == pytest.approx(said.onsets().bilabial, abs=1e-3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pie.json", "pie.wav"]


def test_many_languages() -> None:
    assert len(espeak.languages()) > 100
    for language, text in (("fr", "Bonjour Marie"), ("de", "Guten Morgen"), ("es", "Buenos días")):
        assert espeak.speak(text, language).onsets().bilabial


def test_an_unknown_voice_is_refused_and_near_ones_named() -> None:
    with pytest.raises(UsageError, match="en-gb") as caught:
        espeak.speak("hello", "en-gbb")
    assert "\n" not in str(caught.value)
    for voice in ("", "xx-none"):
        with pytest.raises(UsageError, match="no such voice"):
            espeak.speak("hello", voice)
    assert espeak.speak("hello", "en-us").language == "en-us"


def test_an_unknown_variant_is_refused_and_every_listed_code_works() -> None:
    with pytest.raises(UsageError, match="after the plus"):
        espeak.speak("hello", "en-us+f22")  # the library would take the plain voice
    assert {"f1", "m3", "whisper"} <= set(espeak.voices())
    plain, other = (espeak.speak("hello", voice) for voice in ("en-gb", "en-gb+f5"))
    assert np.abs(plain.samples[:4000] - other.samples[:4000]).max() > 0.01
    assert espeak.speak("bonjour", "fr-fr").onsets().bilabial


def test_words_have_times() -> None:
    said = espeak.speak("Look at a tree, it cost 25 dollars.", "en-us")
    assert [w.text for w in said.words] == ["Look", "at", "a", "tree", "it", "cost", "25", "dollars"]
    times = [t for w in said.words for t in (w.start, w.end)]
    assert times == sorted(times)
    chinese = espeak.speak("你好，我想买一本书。", "cmn")
    assert "".join(w.text for w in chinese.words) == "你好我想买一本书"


def test_marks_are_no_sounds_of_their_own() -> None:
    names = [p.name for p in espeak.speak("Привет, дядя Петя", "ru").phonemes if p.name]
    assert all(any(c.isalpha() and c not in "ʲʰʷ" for c in name) for name in names)


def test_nothing_to_say() -> None:
    for text in ("", "  ", "..."):
        with pytest.raises(UsageError):
            espeak.speak(text)
    with pytest.raises(UsageError, match="speed"):
        espeak.speak("hello", speed=5)
