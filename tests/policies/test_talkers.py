"""Many talkers: scores by language, the family of models, APC, and what must not matter to the voice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from facetwin.policies import a2l_train, apc_train, nonspeech, talker_score, voice_score
from facetwin.policies.apc import AHEAD, APC, APCShape
from facetwin.policies.baselines import Baselines
from facetwin.policies.dataset import Clip
from facetwin.policies.espeak import Phoneme
from facetwin.policies.scores import Reference, opening_correlation
from facetwin.policies.speech import Shape
from facetwin.policies.speech_score import lag_corrected
from facetwin.policies.speech_train import Training, split
from facetwin.policies.talker_score import Talkers
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.landmarks import indices

Made = Callable[[int], list[Clip]]


def spoken(talkers: Made, count: int = 6) -> list[Clip]:
    """Two talkers of two languages; /b/ stands where the lips are shut, /t/ where they are open."""
    clips = []
    for k, clip in enumerate(talkers(count)):
        opened = np.flatnonzero(clip.landmarks[:, 13, 1] - clip.landmarks[:, 14, 1] > 0.05) / 25
        on = float(opened[0])
        said = (Phoneme("b", on - 0.16, on - 0.08), Phoneme("ɪ", on - 0.08, on + 0.16))
        said += (Phoneme("t", on + 0.16, on + 0.2), Phoneme("ɪ", on + 0.2, on + 0.4))
        clips.append(replace(clip, talker=f"t{k % 2}", language=("xx", "yy")[k % 2], phonemes=said))
    return clips


def test_by_language_and_talker(talkers: Made) -> None:
    group = Talkers.of(spoken(talkers))
    ids = indices("speech63")

    def perfect(clip: Clip) -> np.ndarray:
        return clip.landmarks[:, ids, :2] - group.statics[clip.talker]

    table, faces = talker_score.talker_table(group, {"model": perfect})
    assert table["model"]["D-P"].value < 1e-6
    assert table["person"]["closure - control"].value == pytest.approx(1.0)
    rows = talker_score.by_group(group, faces, "language")
    assert list(rows) == ["xx", "yy"]
    for row in rows.values():
        assert row["clips"] == 3
        assert row["closure - control"] == pytest.approx(1.0)
        assert row["opening correlation"] == pytest.approx(1.0)
        assert abs(row["offset"]) < 5
    found = talker_score.spread(rows)
    assert found["opening correlation"]["sd"] < 1e-6
    assert len(talker_score.by_group(group, faces, "talker")) == 2


def test_without_phonemes_there_is_nothing_to_score(talkers: Made) -> None:
    with pytest.raises(FaceTwinError, match="no clip with phonemes"):
        Talkers.of(talkers(2))


def test_baselines_of_many_talkers(talkers: Made) -> None:
    clips = spoken(talkers, 8)
    bigger = [replace(c, landmarks=c.landmarks * np.float32(1.0 + 0.3 * (c.talker == "t1"))) for c in clips]
    fitted = Baselines.fit_talkers(bigger, 2, penalty=1.0)
    for clip in bigger:
        moved = fitted.displacement("nearest neighbour", clip.samples, len(clip))
        size = 1.3 if clip.talker == "t1" else 1.0
        assert abs(moved.min()) in (pytest.approx(0.1, rel=0.02), pytest.approx(0.13, rel=0.02)), size


def test_the_lag_of_a_clip_is_taken_out() -> None:
    random = np.random.default_rng(0)
    smooth = np.convolve(random.random(200), np.hanning(9), "same") / 40
    face = np.zeros((200, 478, 3), np.float32)
    face[:, 13, 1] = smooth
    references = [Reference(str(k), np.roll(face, k - 1, 0), np.ones(200, bool)) for k in range(3)]
    straight = opening_correlation([face] * 3, references)
    assert lag_corrected([face] * 3, references) > max(0.97, straight + 0.02)


def test_apc_learns_what_comes_next(tmp_path: Path) -> None:
    sounds = [nonspeech.sound("strings", k, 3.0) for k in range(6)]
    options = apc_train.APCTraining(seconds=60, steps=25, batch=4, rows=60, rate=5e-3, augment=0.0)
    rows: list[dict[str, float]] = []
    net, curve = apc_train.train_apc(sounds, APCShape(2, 24), options, rows.append)
    assert rows == curve
    assert curve[-1]["held_out"] < curve[0]["held_out"]
    net.save(
        tmp_path / "a.safetensors",
        {k: "" for k in ("data", "licence", "command", "commit", "seed", "scores")},
    )
    again = APC.load(tmp_path / "a.safetensors")
    heard = torch.randn(1, 30, 80)
    assert torch.equal(again.hear(heard)[0], net.eval().hear(heard)[0])
    changed = heard.clone()
    changed[:, 20:] = 0
    assert torch.equal(again(changed)[:, :20], again(heard)[:, :20])  # it hears nothing of the future
    assert AHEAD == 3
    with pytest.raises(FaceTwinError):
        apc_train.train_apc(sounds[:1], APCShape(1, 4), options)


def test_sizes_are_the_reports() -> None:
    assert sum(p.numel() for p in APC(APCShape()).gru.parameters()) == pytest.approx(4.0e6, rel=0.03)


@pytest.mark.parametrize(
    "name", ["LSTM", "mean, transformer (offline)", "LSTM, standardised", "GRU, our loss"]
)
def test_a_variant_is_trained_and_scored(name: str, talkers: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nonspeech, "TRAINING", {"noise": nonspeech.noise})
    variant = next(v for v in a2l_train.VARIANTS if v.name == name)
    small = replace(variant.shape, hidden=16, layers=1)
    small = replace(variant, shape=small, training=replace(variant.training, batch=2, length=60, augment=0.0))
    clips = spoken(talkers)
    torch.manual_seed(0)
    apc = APC(APCShape(1, 8)).eval()
    _, parts = split([clips], Shape(leveled=True), Training(augment=0), 0.2)
    model = a2l_train.train_variant(small, parts, apc, 0.3, 0)
    assert 0.5 <= model.shape.gain <= 2
    table = a2l_train.score_variant(model, Talkers.of(clips), Talkers.of(clips))
    assert set(table) == {"gain", "no gain"}
    assert np.isfinite(table["gain"]["D-P"].value)
    assert 0 <= table["gain"]["visemes"].value < 1.5
    assert "visemes" not in a2l_train.score_variant(model, Talkers.of(clips))["gain"]


def test_the_family_has_what_the_report_has() -> None:
    shapes = [v.shape for v in a2l_train.VARIANTS]
    assert {s.pool for s in shapes} == {"lstm", "mean", "max", "sum"}
    assert {s.attention for s in shapes} == {"none", "luong", "transformer"}
    assert {s.context for s in shapes if s.net == "slice"} == {13, 26}
    assert {v.apc for v in a2l_train.VARIANTS} == {True, False}
    assert len({v.name for v in a2l_train.VARIANTS}) == len(shapes)


class Loud:
    """A mouth that opens with the loudness of the last 40 ms."""

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        count = -(-len(samples) // 640)
        padded = np.zeros(count * 640, np.float32)
        padded[: len(samples)] = samples
        out = np.zeros((count, 63, 2), np.float32)
        out[:, voice_score.UPPER, 1] = np.sqrt((padded.reshape(-1, 640) ** 2).mean(1))
        return out


def test_a_mouth_that_follows_loudness_is_found_out() -> None:
    rows = voice_score.without_speech(Loud(), seconds=1.0, seeds=(1,), levels=(-60.0, -15.0))
    assert rows["silence"] == {"p95": 0.0, "most": 0.0}
    assert rows["hum"]["p95"] > 0.1
    assert "siren (unheard)" in rows
    changed = voice_score.levels(Loud(), {"song": nonspeech.sound("song", 0, 1.0)}, (-20.0,))
    assert changed["song, -20 dB"]["spread"] == pytest.approx(0.1, rel=1e-3)
    assert changed["song, -20 dB"]["correlation"] == pytest.approx(1.0, abs=1e-3)
