"""Articulation: closures close, rounding rounds, haste undershoots, silence rests, every sound is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facetwin.policies import espeak
from facetwin.policies import visemes_table as vt
from facetwin.policies.articulation import Style, articulate, bring_together, gaps
from facetwin.policies.espeak import Phoneme
from facetwin.policies.synthetic import TEST_LANGUAGES, TRAINING_LANGUAGES, sentences
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.landmarks import SETS

UP, LOW = SETS["speech63"].index(13), SETS["speech63"].index(14)
LEFT, RIGHT = SETS["speech63"].index(291), SETS["speech63"].index(61)


def opening(moved: np.ndarray) -> np.ndarray:
    return moved[:, UP, 1] - moved[:, LOW, 1]


def width(moved: np.ndarray) -> np.ndarray:
    return moved[:, LEFT, 0] - moved[:, RIGHT, 0]


def string(names: str, each: float = 0.12, start: float = 0.3) -> list[Phoneme]:
    """Sounds of equal length between two pauses."""
    parts = names.split()
    times = start + each * np.arange(len(parts) + 1)
    sounds = [Phoneme(name, a, b) for name, a, b in zip(parts, times, times[1:])]
    return [Phoneme("", 0, start), *sounds, Phoneme("", times[-1], times[-1] + 0.5)]


def test_every_sound_of_every_language_has_a_viseme() -> None:
    texts = sentences()
    assert set(texts) == {*TRAINING_LANGUAGES, *TEST_LANGUAGES}
    assert min(map(len, texts.values())) >= 12
    for language, own in texts.items():
        said = espeak.speak(" . ".join(own), language, speed=300)
        parts = vt.segments(said.phonemes)  # raises for a sound nobody knows
        known = {part.letter for part in parts} - vt.THROAT
        assert all(np.isfinite(vt.shipped().target(letter)).all() for letter in known), language
        assert len(known) > 12, language
    assert not set(TRAINING_LANGUAGES) & set(TEST_LANGUAGES)


def test_a_letter_nobody_knows_is_an_error() -> None:
    with pytest.raises(FaceTwinError, match="no viseme"):
        vt.letters("☃ж")


def test_recipes_are_made_of_units() -> None:
    for letter, recipe in vt.LIKE.items():
        assert letter not in vt.UNITS
        assert set(recipe) <= {*vt.UNITS, vt.ROUND}
        assert sum(w for unit, w in recipe.items() if unit != vt.ROUND) == pytest.approx(1)


@pytest.mark.parametrize("sound", ["p", "b", "m", "pʰ", "bʲ"])
@pytest.mark.parametrize("vowel", ["a", "i", "u"])
@pytest.mark.parametrize("each", [0.05, 0.12, 0.3])
def test_bilabials_close(sound: str, vowel: str, each: float) -> None:
    sounds = string(f"{vowel} {sound} {vowel}", each)
    fine = opening(articulate(sounds, 2000, fps=1000))
    onset = sounds[2].start
    near = fine[round(1000 * (onset - 0.08)) : round(1000 * (onset + 0.06))]
    assert (near < 0.01).sum() >= 40  # ms
    for shift in np.linspace(0, 0.04, 5):  # wherever pictures fall, one of them sees it
        moved = [Phoneme(p.name, p.start + shift, p.end + shift) for p in sounds]
        coarse = opening(articulate(moved, 50))
        at = round((onset + shift) * 25)
        assert coarse[at - 2 : at + 2].min() < 0.01
    if vowel == "a" and each > 0.06:
        assert fine[round(1000 * sounds[1].start) : round(1000 * onset)].max() > 0.03


def test_a_stop_is_shut_before_its_burst_and_a_nasal_while_it_hums() -> None:
    burst = string("a p a", 0.2)
    fine = opening(articulate(burst, 1000, fps=1000))
    shut = np.flatnonzero(fine[400:700] < 0.01) / 1000 + 0.4
    assert shut.min() == pytest.approx(burst[2].start - 0.07, abs=0.03)
    assert shut.max() == pytest.approx(burst[2].start, abs=0.03)
    hum = string("a m a", 0.2)
    fine = opening(articulate(hum, 1000, fps=1000))
    assert (fine[round(1000 * hum[2].start) + 5 : round(1000 * hum[2].end) - 40] < 0.01).all()


def test_rounding_narrows_and_comes_early() -> None:
    def middle(vowel: str) -> float:
        return float(width(articulate(string(f"t {vowel} t", 0.2), 300, fps=250))[150])

    for vowel in ("u", "o", "y", "ø", "w", "ɔ"):
        assert middle(vowel) < middle("i") - 0.015, vowel
    lips = list(range(40))
    out, flat = (articulate(string(f"t {v} t", 0.2), 300, fps=250)[150, lips, 2].mean() for v in "ui")
    assert out > flat + 0.003
    spread, round_ = (width(articulate(string(f"s t {v}", 0.15), 30)) for v in ("i", "u"))
    assert round_[13] < spread[13] - 0.005  # at 0.52 s, in the /t/: the vowel begins at 0.6


def test_lip_and_teeth() -> None:
    moved = articulate(string("a f a", 0.16), 400, fps=400)
    middle = round(400 * 0.54)
    assert 0 < opening(moved)[middle] < 0.04
    assert opening(moved)[middle] < 0.5 * opening(moved).max()
    assert moved[middle, LOW, 2] < moved[round(400 * 0.38), LOW, 2]  # rolled in


def test_haste_undershoots_and_silence_rests() -> None:
    tall = [opening(articulate(string("t a t a t", each), 60)).max() for each in (0.3, 0.12, 0.05)]
    assert tall[0] > tall[1] > tall[2]
    still = articulate([Phoneme("", 0, 1.0)], 25)
    assert opening(still).max() < 0.005
    assert np.abs(articulate(string("a", 0.2), 75)[-8:]).max() < 0.01
    assert articulate([], 10).shape == (10, 63, 3)


def test_english_sounds_differ_where_lips_show_it() -> None:
    table = vt.shipped()
    heard = {name: articulate(string(f"ə {name} ə", 0.15), 40)[8:20] for name in "pfθtlsʃkɹw"}
    heard |= {name: articulate(string(f"t {name} t", 0.15), 40)[8:20] for name in "iɪɛaɑɔu"}
    names = list(heard)
    for k, a in enumerate(names):
        for b in names[:k]:
            assert np.linalg.norm(heard[a] - heard[b], axis=-1).max() > 0.008, (a, b)
    assert table.channels == 8


def test_styles_change_what_they_say() -> None:
    sounds = string("t a t u t", 0.15)
    plain = articulate(sounds, 40)
    assert opening(articulate(sounds, 40, style=Style(amplitude=1.3))).max() > 1.15 * opening(plain).max()
    early = articulate(sounds, 400, fps=250, style=Style(lead=0.02))
    np.testing.assert_allclose(early[:-5], articulate(sounds, 400, fps=250)[5:], atol=2e-4)
    lopsided = articulate(sounds, 40, style=Style(asymmetry=0.1))
    assert np.abs(lopsided - plain).max() > 0.002


def test_any_style_closes_the_mouth_of_its_own_face() -> None:
    rest = np.zeros((63, 3), np.float32)
    rest[UP, 1] = 0.03  # a mouth that stands open
    moved = articulate(string("a p a"), 400, fps=400, style=Style(amplitude=1.4, rounding=1.4), rest=rest)
    assert (gaps(moved + rest)[round(400 * 0.4)] < 0.01).all()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", *sorted({*vt.UNITS, *vt.LIKE, *vt.THROAT} - {"_"})]), st.floats(0.0, 0.4)
        ),
        max_size=12,
    ),
    st.integers(0, 60),
)
def test_any_string_of_sounds_is_finite_and_lips_never_cross(sounds: list, frames: int) -> None:
    ends = np.cumsum([0.0] + [length for _, length in sounds])
    phonemes = [Phoneme(name, a, b) for (name, _), a, b in zip(sounds, ends, ends[1:])]
    moved = articulate(phonemes, frames)
    assert moved.shape == (frames, 63, 3)
    assert moved.dtype == np.float32
    assert np.isfinite(moved).all()
    assert np.abs(moved).max(initial=0) < 0.6
    assert gaps(moved).min(initial=0) > -0.006


def test_bringing_together_leaves_the_rest_alone() -> None:
    random = np.random.default_rng(0)
    moved = random.normal(0, 0.05, (5, 63, 3)).astype(np.float32)
    gap = np.full(9, 0.004, np.float32)
    parts = (torch.from_numpy(part) for part in (moved, gap, np.ones(5, np.float32), np.zeros(5, np.float32)))
    done = bring_together(*parts).numpy()
    np.testing.assert_array_equal(done[:, 40:], moved[:, 40:])
    assert gaps(done).max() < 1e-6


def test_table_there_and_back_and_broken(tmp_path: Path) -> None:
    table = vt.shipped()
    vt.write_table(table, tmp_path / "t.json")
    again = vt.read_table(tmp_path / "t.json")
    np.testing.assert_allclose(again.basis, table.basis, atol=1e-5)
    assert "GRID" in table.about["data"]
    assert "CC BY 4.0" in table.about["licence"]
    raw = json.loads((tmp_path / "t.json").read_text())
    for broken in ({}, {**raw, "basis": [[1]]}, {**raw, "targets": {}}, {**raw, "before": None}, []):
        (tmp_path / "b.json").write_text(json.dumps(broken))
        with pytest.raises(FaceTwinError, match="not a table") as caught:
            vt.read_table(tmp_path / "b.json")
        assert "\n" not in str(caught.value)
    with pytest.raises(FaceTwinError):
        vt.read_table(tmp_path / "nothing.json")
