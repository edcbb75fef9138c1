"""Forced alignment: known times are found again; real recordings within bounds; bad input is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from facetwin.cli.main import main
from facetwin.policies import audio, espeak
from facetwin.policies.alignment import Word, read_align
from facetwin.policies.forced_alignment import Alignment, align
from facetwin.twin.errors import FaceTwinError, UsageError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
TEXT = "the puppy had opened the big gate"


def another_voice(text: str = TEXT, voice: str = "en-us+f3", speed: int = 130) -> espeak.Speech:
    return espeak.speak(text, voice, speed=speed, pitch=70)


def room(speech: espeak.Speech, before: float, after: float, noise: float = 0.002) -> np.ndarray:
    """The speech with pauses around it, in a noisy room."""
    random = np.random.default_rng(0)
    pads = (np.zeros(round(s * 16_000), np.float32) for s in (before, after))
    first, last = pads
    whole = np.concatenate([first, 0.3 * speech.samples, last])
    return (whole + noise * random.standard_normal(len(whole))).astype(np.float32)


def test_another_voice_is_found_again() -> None:
    said = another_voice()
    found = align(room(said, 0.7, 0.4), TEXT)
    assert [w.text for w in found.words] == TEXT.split()
    truth = np.array([w.start for w in said.words]) + 0.7
    error = np.abs(np.array([w.start for w in found.words]) - truth)
    assert np.median(error) <= 0.03
    assert error.max() < 0.12
    own, other = ([p for p in x if p.name] for x in (found.phonemes, said.phonemes))
    assert [p.name.strip("ˈˌ") for p in own] == [p.name.strip("ˈˌ") for p in other]
    shift = np.abs([a.start - b.start - 0.7 for a, b in zip(own, other)])
    assert np.median(shift) <= 0.025


def check_order(found: Alignment, seconds: float) -> None:
    for rows in (found.words, found.phonemes):
        times = [t for row in rows for t in (row.start, row.end)]
        assert times == sorted(times)
        assert times[0] >= 0
        assert times[-1] <= seconds + 0.03


def test_times_are_in_order_whatever_the_sound() -> None:
    random = np.random.default_rng(1)
    for sound in (random.standard_normal(32_000) * 0.1, np.sin(np.arange(24_000) * 0.05) * 0.5):
        check_order(align(sound.astype(np.float32), "hello my friend"), len(sound) / 16_000)


def test_a_pause_between_words_is_found() -> None:
    first, second = (another_voice(t) for t in ("the puppy had opened", "the big gate"))
    whole = np.concatenate([room(first, 0.3, 0.8), room(second, 0.0, 0.3)])
    found = align(whole, "the puppy had opened the big gate")
    assert found.words[4].start == pytest.approx(0.3 + len(first.samples) / 16_000 + 0.8, abs=0.12)
    assert max(p.end - p.start for p in found.phonemes if not p.name) > 0.6


def test_known_words_pin_their_phonemes() -> None:
    said = another_voice()
    sound = room(said, 0.5, 0.5)
    words = [Word(w.text, w.start + 0.5, w.end + 0.5) for w in said.words]
    found = align(sound, TEXT, words=words)
    for own, word in zip(found.words, words):
        assert own.start > word.start - 0.08
        assert own.end < word.end + 0.08
    with pytest.raises(UsageError, match="other words"):
        align(sound, TEXT, words=words[:-1])


def test_grid_words_within_bounds() -> None:
    clips = sorted((SHARED / "grid_s1" / "val").glob("*.mp4"))[:6]
    if not clips:
        pytest.skip("the GRID clips are not in ../shared")
    errors = []
    for path in clips:
        words = [
            w for w in read_align(SHARED / "grid_s1" / "align" / f"{path.stem}.align") if w.text != "sil"
        ]
        text = " ".join("eigh" if w.text == "a" else w.text for w in words)  # the letter, not the article
        found = align(audio.load(path).samples, text, "en-gb")
        errors += [abs(own.start - word.start) for own, word in zip(found.words, words)]
    assert np.median(errors) <= 0.035


@pytest.mark.slow
@pytest.mark.parametrize("language", ["de", "es"])
def test_read_books_run_through(language: str, tmp_path: Path) -> None:
    sound = SHARED / "speech" / f"aeneas_{language}.mp3"
    if not sound.exists():
        pytest.skip("the recordings are not in ../shared")
    out = tmp_path / "a.json"
    text = str(sound.with_suffix(".txt"))
    assert main(["align", str(sound), "--text", text, "--language", language, "-o", str(out)]) == 0
    found = json.loads(out.read_text("utf-8"))
    lengths = [w["end"] - w["start"] for w in found["words"]]
    assert len(lengths) > 100
    assert max(lengths) < 2
    assert found["words"][-1]["end"] > 0.8 * audio.load(sound).duration


def test_bad_input() -> None:
    sound = room(another_voice(), 0.1, 0.1)
    with pytest.raises(FaceTwinError, match="nothing to be heard"):
        align(np.zeros(16_000, np.float32), TEXT)
    with pytest.raises(UsageError, match="nothing to say"):
        align(sound, "  ")
    with pytest.raises(UsageError, match="no such voice"):
        align(sound, TEXT, "xx")
    with pytest.raises(UsageError, match="too long"):
        align(np.ones(181 * 16_000, np.float32), TEXT)
    with pytest.raises(UsageError, match="too short"):
        align(sound[:3000], TEXT * 3)
    for bad in (sound[None], np.full(16_000, np.nan, np.float32)):
        with pytest.raises(FaceTwinError, match="not sound"):
            align(bad, TEXT)


def test_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wav, text = tmp_path / "s.wav", tmp_path / "s.txt"
    espeak.write(another_voice(), wav)
    text.write_text(f"f1|{TEXT}\n", "utf-8")
    assert main(["align", str(wav), "--text", str(text), "-o", str(tmp_path / "o.json")]) == 0
    assert capsys.readouterr().out.split()[2] == "the"
    found = json.loads((tmp_path / "o.json").read_text("utf-8"))
    assert [w["text"] for w in found["words"]] == TEXT.split()
    assert main(["align", str(wav), "--text", TEXT, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)["words"]
    # espeak-ng says a text again with other milliseconds
    assert [w["start"] for w in again] == pytest.approx([w["start"] for w in found["words"]], abs=0.06)


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["nothing.wav", "--text", "hello"], "no such file"),
        (["{wav}", "--text", "nothing.txt"], "no such file"),
        (["{wav}", "--text", "{empty}"], "nothing in it"),
        (["{wav}", "--text", "{wav}"], "not a text"),
        (["{wav}", "--text", "hello", "--language", "xx"], "no such voice"),
        (["{wav}", "--text", "hello", "-o", "{folder}"], "is a folder"),
    ],
)
def test_bad_input_of_the_verb(
    more: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wav, empty = tmp_path / "s.wav", tmp_path / "e.txt"
    espeak.write(espeak.speak("hello"), wav)
    empty.write_text("\n")
    names = {"wav": wav, "empty": empty, "folder": tmp_path}
    assert main(["align", *(part.format(**names) for part in more)]) in (1, 2)
    error = capsys.readouterr().err.strip()
    assert complaint in error
    assert "\n" not in error
