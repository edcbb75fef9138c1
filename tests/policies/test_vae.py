"""The image latent: round trips, what it refuses, and that its training learns, stops and goes on."""

import json
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from facetwin.policies.lip_data import SOURCES, LipData, make, postures
from facetwin.policies.vae import LATENT, Vae, VaeNet, doubled, from_net, halved, small, to_net
from facetwin.policies.vae_train import (
    Progressing,
    Training,
    begin,
    finish,
    judge,
    train,
    train_reader,
    unfolded,
)
from facetwin.policies.weights import provenance
from facetwin.twin.couplings import Couplings
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.lip_crop import SIZE
from facetwin.twin.spec import load_rig

NOTE = {"data": "none", "licence": "Apache-2.0", "seed": 0, "scores": {}}
QUICK = Training(steps=12, batch=8, reader_steps=4, seed=1)


def faces(count: int, seed: int = 0) -> LipData:
    """Made-up lips: a dark slit of some height on a reddish ground."""
    rng = np.random.default_rng(seed)
    gap = rng.uniform(0, 12, count).astype(np.float32)
    own = np.full((count, SIZE, SIZE, 3), (190, 120, 110), np.uint8)
    for k, high in enumerate(gap):
        own[k, 64 - int(high) : 64 + int(high) + 1, 30:98] = 15
    seen = np.clip(own + rng.normal(0, 4, own.shape), 0, 255).astype(np.uint8)
    lips = np.repeat(gap[:, None, None] / 90, 40, 1).repeat(2, 2).astype(np.float32)
    return LipData(
        seen, own, rng.uniform(size=(count, 26)).astype(np.float32), lips, gap, np.zeros(count, int)
    )


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    spread = {"mean": [0.0] * LATENT, "std": [1.0] * (LATENT - 1) + [0.001]}
    return Vae(VaeNet(), {**NOTE, **provenance(), "latents": spread})


def test_folding_is_undone():
    crops = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    net = to_net(crops)
    assert net.shape == (3, 48, 32, 32)
    assert net.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(from_net(net), crops)
    flat = (unfolded(net) + 0.5) * 255
    assert np.array_equal(flat.round().permute(0, 2, 3, 1).numpy().astype(np.uint8), crops)
    blocks = crops.reshape(3, 32, 4, 32, 4, 3).mean((2, 4)).transpose(0, 3, 1, 2).reshape(3, -1) / 255 - 0.5
    assert np.allclose(small(net), blocks, atol=1e-6)
    assert torch.allclose(halved(doubled(halved(net))), halved(net), atol=1e-6)


def test_batches_single_crops_and_a_file_agree(vae, tmp_path):
    crops = faces(70).own
    whole = vae.encode(crops)
    assert whole.shape == (70, LATENT)
    assert np.allclose(vae.encode(crops[3:4]), whole[3:4], atol=1e-5)
    vae.save(tmp_path / "vae.safetensors")
    assert (tmp_path / "vae.safetensors").stat().st_size < 3e6
    other = Vae.load(tmp_path / "vae.safetensors")
    assert np.abs(other.encode(crops) - whole).max() < 2e-2  # float16
    assert other.decode(whole).shape == crops.shape


def test_distance_counts_active_dimensions_in_their_spread(vae):
    assert vae.active.sum() == LATENT - 1
    a = np.zeros(LATENT, np.float32)
    b = a.copy()
    b[-1] = 100  # carries nothing
    assert vae.distance(a, b) == 0
    assert np.isclose(vae.distance(a, a + 2), 2)
    assert np.allclose(vae.distance(np.zeros((5, LATENT)), np.ones(LATENT)), 1)


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 64, 64, 3), np.uint8), np.zeros((2, SIZE, SIZE, 3)), np.zeros(3)]
)
def test_what_is_no_crop_is_refused(vae, wrong):
    with pytest.raises(FaceTwinError, match="not lip crops"):
        vae.encode(wrong)


def test_wrong_latents_and_weights_are_refused(vae, tmp_path):
    with pytest.raises(FaceTwinError, match="not latents"):
        vae.decode(np.zeros((2, 15)))
    with pytest.raises(FaceTwinError, match="not latents"):
        vae.decode(np.full((1, LATENT), np.nan))
    with pytest.raises(UsageError, match="no such weights"):
        Vae.load(tmp_path / "none.safetensors")
    with pytest.raises(FaceTwinError, match="spread of its latents"):
        Vae(VaeNet(), {"latents": {"mean": [0.0]}})
    path = tmp_path / "vae.safetensors"
    vae.save(path)
    note = json.loads(path.with_suffix(".json").read_text())
    del note["latents"]
    path.with_suffix(".json").write_text(json.dumps(note))
    with pytest.raises(FaceTwinError, match="spread of its latents"):
        Vae.load(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(FaceTwinError, match="do not open"):
        Vae.load(path)


@pytest.mark.slow
def test_training_learns_and_a_resumed_one_is_the_same(tmp_path):
    data = faces(60)
    features = train_reader(data, QUICK).features
    rows: list[dict[str, float]] = []
    whole = begin(data, QUICK)
    train(whole, data, features, 12, rows.append)
    first = begin(data, QUICK)
    train(first, data, features, 5, rows.append)
    first.save(tmp_path / "c.safetensors")
    second = begin(data, QUICK)
    assert second.load(tmp_path / "c.safetensors")
    assert second.step == 5
    train(second, data, features, 12, rows.append)
    for name, value in whole.smooth.items():
        assert torch.allclose(value, second.smooth[name], atol=1e-4), name
    assert not begin(data, replace(QUICK, kl=0.1)).load(tmp_path / "c.safetensors")  # other options
    held = faces(40, seed=5)
    scores = judge(finish(whole, held, {**NOTE, **provenance()}), held)
    assert scores["grey_levels"] < 0.6 * scores["grey_levels_mean_picture"]
    assert scores["active"] >= 1


def test_begin_knows_the_principal_components():
    data = faces(60)
    work = begin(data, QUICK)
    assert isinstance(work, Progressing)
    basis = work.net.decoder.basis.flatten(1)
    cross = (basis @ basis.T).numpy()
    assert np.abs(cross - np.diag(np.diag(cross))).max() < 0.1 * cross.max()  # of 64 px: nearly orthogonal
    assert (np.diff(np.diag(cross)) < 1e-3 * cross.max()).all()  # the largest first


def test_postures_are_allowed_and_of_all_sources():
    spec = load_rig()
    speech = np.tile(spec.rest.astype(np.float32), (50, 1))
    rows = list(islice(postures(spec, np.random.default_rng(0), speech), 400))
    commands = np.array([row for row, _ in rows])
    assert Couplings(spec).allowed(commands).all()
    assert {kind for _, kind in rows} == set(range(len(SOURCES)))
    rows = list(islice(postures(spec, np.random.default_rng(0)), 80))
    assert 0 not in {kind for _, kind in rows}  # no speech was given


@pytest.mark.sim
@pytest.mark.slow
def test_pictures_are_made_once_and_repeat(tmp_path):
    spec = load_rig()
    data = make(tmp_path / "a", spec, 4, 3)
    again = make(tmp_path / "b", spec, 4, 3)
    assert len(data) == 4
    assert np.array_equal(data.seen, again.seen)
    assert np.array_equal(data.own, again.own)
    stamp = (tmp_path / "a" / "own.npy").stat().st_mtime_ns
    make(tmp_path / "a", spec, 4, 3)
    assert (tmp_path / "a" / "own.npy").stat().st_mtime_ns == stamp
    with pytest.raises(UsageError, match="no pictures"):
        LipData.load(tmp_path / "c")
