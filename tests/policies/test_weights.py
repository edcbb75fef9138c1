"""Weights: whole or refused, in one line."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from facetwin.policies import weights
from facetwin.twin.errors import FaceTwinError, UsageError

SIDECAR = {"data": "none", "licence": "none", "command": "", "commit": "", "seed": 0, "scores": {}}
TENSORS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3)}


def test_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    weights.save_weights(path, TENSORS, SIDECAR)
    tensors, sidecar = weights.load_weights(path, {"a": (2, 3)})
    assert np.array_equal(tensors["a"], TENSORS["a"])
    assert sidecar == SIDECAR
    assert sorted(p.name for p in tmp_path.iterdir()) == ["w.json", "w.safetensors"]


def test_bad_files_are_refused_in_one_line(tmp_path: Path) -> None:
    good = tmp_path / "good.safetensors"
    weights.save_weights(good, TENSORS, SIDECAR)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(good.read_bytes()[:-5])
    empty = tmp_path / "empty.safetensors"
    empty.touch()
    pickled = tmp_path / "pickled.safetensors"
    pickled.write_bytes(pickle.dumps(TENSORS))
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes(good.read_bytes())
    for path, words in ((cut, "truncated"), (empty, "truncated"), (pickled, "pickle"), (alone, "sidecar")):
        with pytest.raises(FaceTwinError, match=words) as caught:
            weights.load_weights(path)
        assert path.name in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError):
        weights.load_weights(tmp_path / "absent.safetensors")


def test_a_header_as_long_as_a_pickle_begins_is_read(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    for length in range(1, 300):  # one file in 32 begins with a pickle's first byte
        weights.save_weights(path, {"a" * length: TENSORS["a"]}, SIDECAR)
        if path.read_bytes()[:1] == b"\x80":
            break
    assert path.read_bytes()[:1] == b"\x80"
    tensors, _ = weights.load_weights(path)
    assert np.array_equal(tensors["a" * length], TENSORS["a"])


@pytest.mark.parametrize("expect", [{"a": (3, 2)}, {"b": (2, 3)}, {}, {"a": (2, 3), "b": (1,)}])
def test_other_shapes_and_names(tmp_path: Path, expect: dict[str, tuple[int, ...]]) -> None:
    path = tmp_path / "w.safetensors"
    weights.save_weights(path, TENSORS, SIDECAR)
    with pytest.raises(FaceTwinError, match="another"):
        weights.load_weights(path, expect)


def test_nothing_unfit_is_written(tmp_path: Path) -> None:
    with pytest.raises(FaceTwinError, match="finite"):
        weights.save_weights(tmp_path / "w.safetensors", {"a": np.array([np.nan])}, SIDECAR)
    with pytest.raises(FaceTwinError, match="licence"):
        weights.save_weights(tmp_path / "w.safetensors", TENSORS, {"data": ""})
    with pytest.raises(UsageError):
        weights.save_weights(tmp_path / "w.pt", TENSORS, SIDECAR)
    assert not list(tmp_path.iterdir())
