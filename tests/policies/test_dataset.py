"""Landmark datasets: what was written comes back, old ones open, half-written ones do no harm."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from facetwin.policies import dataset
from facetwin.policies.dataset import Clip, DatasetWriter, load_clips, read_manifest
from facetwin.policies.espeak import Phoneme
from facetwin.policies.metric_face import Head
from facetwin.twin.errors import FaceTwinError, UsageError


def made_up(name: str = "a", count: int = 50, seed: int = 0) -> Clip:
    random = np.random.default_rng(seed)
    return Clip(
        name,
        random.normal(size=(count, 478, 3)).astype(np.float32),
        random.random(count) < 0.9,
        random.uniform(-1, 1, count * 640).astype(np.float32),
        "ann",
        "fr-fr",
        (Phoneme("", 0.0, 0.1), Phoneme("ʒ", 0.1, 0.21)),
        Head(
            random.uniform(-0.5, 0.5, (count, 3)).astype(np.float32),
            random.normal(size=(count, 3)).astype(np.float32),
            np.full(count, 60, np.float32),
        ),
    )


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    clip = made_up()
    with DatasetWriter(tmp_path / "set", {"source": "made up"}) as out:
        row = out.add(clip, seed=3)
        out.drop("b", "no sound track; found nothing")
        assert out.holds("a")
        assert not out.holds("b")
    assert row["talker"] == "ann"
    (read,) = load_clips(tmp_path / "set")
    assert (read.name, read.talker, read.language, read.phonemes) == ("a", "ann", "fr-fr", clip.phonemes)
    assert np.array_equal(read.landmarks, clip.landmarks)
    assert np.array_equal(read.seen, clip.seen)
    assert np.abs(read.samples - clip.samples).max() <= 0.5 / 32767 + 1e-7
    assert read.head is not None
    assert clip.head is not None
    assert all(np.array_equal(v, clip.head.tensors()[k]) for k, v in read.head.tensors().items())
    meta = json.loads((tmp_path / "set" / "meta.json").read_text())
    assert (meta["kept"], meta["dropped"]) == (1, {"no sound track": 1})
    assert meta["talkers"] == ["ann"]
    assert meta["source"] == "made up"
    assert not list(tmp_path.rglob("*.part"))


def test_a_clip_of_the_same_name_replaces_and_adding_goes_on(tmp_path: Path) -> None:
    for seed in (0, 1):
        with DatasetWriter(tmp_path) as out:
            out.add(made_up(seed=seed))
            out.add(made_up(f"b{seed}", seed=5))
    clips = load_clips(tmp_path)
    assert [clip.name for clip in clips] == ["a", "b0", "b1"]
    assert np.array_equal(clips[0].landmarks, made_up(seed=1).landmarks)
    with DatasetWriter(tmp_path) as out:
        out.add(replace(made_up(), phonemes=None))
    assert load_clips(tmp_path)[0].phonemes is None  # not those of the clip that was replaced


def test_old_datasets_open(tmp_path: Path) -> None:
    """As they were written before there were talkers, heads and phonemes."""
    folder = tmp_path / "grid" / "val"
    (folder / "clips").mkdir(parents=True)
    tensors = {
        "landmarks": np.zeros((25, 478, 3), np.float32),
        "times": np.arange(25) / 25,
        "seen": np.ones(25, np.uint8),
        "pcm": np.zeros(16_000, np.int16),
    }
    for name in ("s1", "mp4__id00012__xyz__00001"):
        save_file(tensors, folder / "clips" / f"{name}.safetensors", metadata={"fps": "25.0", "facts": "{}"})
    rows = [{"name": n, "stamp": "0", "kept": True, "frames": 25} for n in ("s1", "mp4__id00012__xyz__00001")]
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "meta.json").write_text("{}")
    clips = load_clips(folder)
    assert [clip.talker for clip in clips] == ["id00012", "grid"]  # "val" says nothing about who talks
    assert all(clip.language == "" and clip.phonemes is None and clip.head is None for clip in clips)


def test_clips_of_another_rate_are_resampled(tmp_path: Path) -> None:
    points = np.zeros((60, 478, 3), np.float32)
    points[:, 0, 0] = np.arange(60) / 30
    turn = np.zeros((60, 3), np.float32)
    turn[:, 1] = np.arange(60) / 30
    head = Head(turn, points[:, 0], np.ones(60, np.float32))
    clip = Clip("a", points, np.ones(60, bool), np.zeros(32_000, np.float32), head=head)
    with DatasetWriter(tmp_path) as out:
        out.add(clip, fps=30)
    read = load_clips(tmp_path)[0]
    assert len(read) == 50
    assert np.allclose(read.landmarks[:-1, 0, 0], np.arange(49) / 25, atol=1e-5)
    assert read.head is not None
    assert np.allclose(read.head.rotation[:-1, 1], np.arange(49) / 25, atol=1e-5)


@pytest.mark.parametrize("name", ["", "../a", "a/b", ".hidden", "a\\b", "a\0"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with DatasetWriter(tmp_path) as out, pytest.raises(UsageError, match="no name"):
        out.add(made_up(name))


@pytest.mark.parametrize("fault", ["nan", "short", "shape", "empty"])
def test_no_clip_that_would_not_open(tmp_path: Path, fault: str) -> None:
    clip = made_up()
    if fault == "nan":
        clip.landmarks[3, 4, 1] = np.nan
    elif fault == "short":
        clip = replace(clip, seen=clip.seen[:-1])
    elif fault == "shape":
        clip = replace(clip, landmarks=clip.landmarks[:, :468])
    else:
        clip = made_up(count=0)
    with DatasetWriter(tmp_path) as out, pytest.raises(FaceTwinError):
        out.add(clip)
    assert not list((tmp_path / "clips").iterdir())


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=200))
def test_any_manifest_can_be_read(tmp_path_factory: pytest.TempPathFactory, rubbish: bytes) -> None:
    folder = tmp_path_factory.mktemp("m")
    good = json.dumps({"name": "a", "kept": True}).encode()
    (folder / "manifest.jsonl").write_bytes(good + b"\n" + rubbish)
    assert read_manifest(folder)[0]["name"] == "a"


@settings(max_examples=40, deadline=None)
@given(st.one_of(st.binary(max_size=100), st.text(max_size=100).map(str.encode)))
def test_phonemes_are_right_or_one_line(tmp_path_factory: pytest.TempPathFactory, rubbish: bytes) -> None:
    path = tmp_path_factory.mktemp("p") / "a.json"
    path.write_bytes(rubbish)
    try:
        assert isinstance(dataset.read_phonemes(path), tuple)
    except FaceTwinError as why:
        text = str(why)
        assert "\n" not in text
        assert "a.json" in text


def test_a_damaged_clip_is_one_line(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path) as out:
        out.add(made_up())
    path = dataset.clip_path(tmp_path, "a")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(FaceTwinError, match="does not open"):
        load_clips(tmp_path)
