"""Synthetic talkers: what they say is known, faces differ, seeds repeat, bad input is refused."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetwin.cli.main import main
from facetwin.policies import espeak, scores, synthetic
from facetwin.policies.dataset import load_clips
from facetwin.policies.espeak import Phoneme, phoneme_onsets
from facetwin.twin.errors import UsageError
from facetwin.twin.landmarks import canonical, eye_distance, indices, opening, width


def test_lists_do_not_overlap_and_exist() -> None:
    assert not set(synthetic.TRAIN_VOICES) & set(synthetic.TEST_VOICES)
    assert not set(synthetic.TRAINING_LANGUAGES) & set(synthetic.TEST_LANGUAGES)
    assert len(synthetic.TEST_LANGUAGES) == 10
    assert len(synthetic.TRAINING_LANGUAGES) >= 12
    assert {*synthetic.TRAIN_VOICES, *synthetic.TEST_VOICES} - {""} <= set(espeak.voices())
    for language in (*synthetic.TRAINING_LANGUAGES, *synthetic.TEST_LANGUAGES):
        assert language in espeak.languages() or language in ("fr", "ro"), language


def test_a_clip_says_what_it_says() -> None:
    talker = synthetic.make_talker("en-us", "f3", seed=4)
    clip = synthetic.say(talker, "Bob and Pam put a pumpkin pie on the map.", seed=1)
    assert clip.landmarks.shape == (len(clip), 478, 3)
    assert len(clip.samples) == 640 * len(clip)
    assert clip.language == "en-us"
    assert clip.phonemes is not None
    assert clip.phonemes[0].start == 0
    assert clip.phonemes[-1].end == pytest.approx(len(clip) / 25, abs=0.05)
    onsets = phoneme_onsets(clip.phonemes)
    assert len(onsets.bilabial) >= 9
    shut = opening(clip.landmarks) < 0.01
    assert all(shut[round(t * 25) - 2 : round(t * 25) + 2].any() for t in onsets.bilabial)
    assert opening(clip.landmarks).max() > 0.06
    assert opening(clip.landmarks)[:3].max() < 0.01  # before speech
    reference = scores.Reference("x", clip.landmarks, clip.seen, onsets)
    assert scores.share([clip.landmarks], [reference], "bilabial", scores.closed, 1) > 0.95


def test_sound_and_lips_are_in_step() -> None:
    talker = synthetic.make_talker("en-us", "", seed=0)
    clip = synthetic.say(talker, "papapapa, mamama, papapa.", seed=0)
    loud = np.sqrt((clip.samples.reshape(-1, 640) ** 2).mean(1))
    a, b = loud - loud.mean(), opening(clip.landmarks) - opening(clip.landmarks).mean()
    lags = range(-5, 6)
    best = max(lags, key=lambda lag: float(a[5:-5] @ b[5 + lag : len(b) - 5 + lag]))
    assert abs(best) <= 1


def test_seeds_repeat_and_talkers_differ() -> None:
    one, same = (synthetic.make_talker("nl", "m1", seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.rest, same.rest)
    assert one.style == same.style
    others = [synthetic.make_talker("nl", "m1", seed=k) for k in range(8)]
    for a, b in itertools.combinations(others, 2):
        assert np.linalg.norm(a.rest - b.rest, axis=-1)[indices("lips40")].mean() > 0.005
        assert a.style != b.style
    faces = [synthetic.say(t, "mooie boom", seed=9) for t in (one, same)]
    assert [p.name for p in faces[0].phonemes or ()] == [p.name for p in faces[1].phonemes or ()]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_faces_are_faces(seed: int) -> None:
    face = synthetic.make_face(np.random.default_rng(seed))
    assert eye_distance(face) == pytest.approx(1, abs=1e-3)
    assert -1e-3 < opening(face) < 0.01
    assert 0.38 < width(face) < 0.8
    assert np.linalg.norm(face - canonical(), axis=1).max() < 0.45
    lips = face[indices("lips40")]
    assert face[152, 1] < lips[:, 1].min() - 0.1 < lips[:, 1].max() < face[1, 1]  # chin, lips, nose


@given(st.lists(st.floats(0.005, 0.5), min_size=1, max_size=10), st.floats(0, 0.05))
def test_jitter_keeps_the_order(lengths: list[float], spread: float) -> None:
    ends = np.cumsum([0, *lengths])
    sounds = [Phoneme("a", a, b) for a, b in itertools.pairwise(ends)]
    moved = synthetic.jittered(sounds, spread, np.random.default_rng(0))
    assert all(p.end > p.start for p in moved)
    assert all(p.end == q.start for p, q in itertools.pairwise(moved))


def test_skin_follows_and_eyes_do_not() -> None:
    rest = synthetic.make_face(np.random.default_rng(0))
    moved = np.zeros((2, 63, 3), np.float32)
    moved[1, :, 1] = -0.1
    face = synthetic.on_face(rest, moved)
    np.testing.assert_allclose(face[0], rest, atol=1e-6)
    shift = face[1] - rest
    np.testing.assert_allclose(shift[indices("speech63")][:, 1], -0.1, atol=1e-6)
    assert np.abs(shift[indices("stable")]).max() < 1e-6
    assert np.abs(shift[indices("left_eye16")]).max() < 1e-6
    assert np.abs(shift).max() < 0.13


def test_made_up_texts_are_said_in_every_test_language() -> None:
    random = np.random.default_rng(0)
    for language in ("ja", "cmn", "ko", "ar"):
        text = synthetic.compose(synthetic.sentences()[language], random, made_up=1.0)
        assert espeak.speak(text, language).phonemes


@pytest.mark.parametrize("language", ["en-us", "cs", "el", "hi", "ta", "fa", "vi", "cmn"])
def test_invented_words_are_new_and_can_be_said(language: str) -> None:
    texts = synthetic.sentences()[language]
    random = np.random.default_rng(1)
    words = [synthetic.invent(texts, random) for _ in range(300)]
    assert all(2 <= len(word) <= 12 for word in words)
    known = {word.lower() for word in synthetic._words(tuple(texts))}
    assert len({*words} - known) > 10
    text = synthetic.compose(texts, random, made_up=1.0, invented=1.0)
    assert espeak.speak(text, language).phonemes


def test_words_of_which_none_can_be_invented() -> None:
    long = ["Donaudampfschifffahrtsgesellschaft"]
    for texts in (long, ["中文"], ["a"]):
        word = synthetic.invent(texts, np.random.default_rng(0))
        assert word
        assert set(word.lower()) <= set(texts[0].lower())


def test_no_invented_words_no_other_texts() -> None:
    texts = synthetic.sentences()["en-us"]
    a = [synthetic.compose(texts, np.random.default_rng(k)) for k in range(20)]
    assert a == [synthetic.compose(texts, np.random.default_rng(k), invented=0.0) for k in range(20)]


def test_verb_makes_a_dataset_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set"
    asked = ["synth", "-o", str(out), "--languages", "en-us,fr", "--voices", "m3,plain", "--each", "2"]
    assert main([*asked, "--clips", "4", "--json"]) == 0
    assert '"made": 4' in capsys.readouterr().out
    clips = load_clips(out)
    assert len(clips) == 4
    assert {c.language for c in clips} == {"en-us", "fr"}
    assert len({c.talker for c in clips}) == 2
    assert all(c.phonemes for c in clips)
    assert main([*asked, "--clips", "4", "--json"]) == 0
    assert '"made": 0' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--languages", "xx-none"], "no such voice|no sentences"),
        (["--voices", "nobody"], "no such voice"),
        (["--clips", "0"], "at least 1"),
        (["--languages", ","], "nothing named"),
        (["--texts", "/no/such/file"], "no such file"),
        (["--made-up", "2"], "no such share"),
        (["--seed", "-1"], "bad seed"),
    ],
)
def test_bad_input(
    more: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    assert main(["synth", "-o", str(tmp_path / "x"), *more]) == 2
    error = capsys.readouterr().err.strip()
    assert re.search(complaint, error), error
    assert "\n" not in error
    assert not (tmp_path / "x").exists()


def test_unknown_talkers_and_texts() -> None:
    with pytest.raises(UsageError, match="no such voice"):
        synthetic.make_talker("en-us", "nobody")
    with pytest.raises(UsageError, match="no such voice"):
        synthetic.make_talker("xx")
    with pytest.raises(UsageError, match="too long"):
        synthetic.say(synthetic.make_talker("en-us"), "a very long story " * 40)


def test_texts_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "t.txt"
    file.write_text("hello there\n\nde\tguten Morgen\n", "utf-8")
    assert synthetic.read_texts(file, ["en-us", "de"]) == {
        "en-us": ["hello there"], "de": ["hello there", "guten Morgen"]
    }  # fmt: skip
    file.write_text("de\tguten Morgen\n", "utf-8")
    with pytest.raises(UsageError, match="no text in a language"):
        synthetic.read_texts(file, ["fr"])
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not a text"):
        synthetic.read_texts(file, ["fr"])
