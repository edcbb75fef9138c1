"""Takes on disk: what is read is what was written, and nothing else is taken for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from facetwin.policies.closed_loop import KEPT, Seen
from facetwin.policies.played import Played, load_played, save_played


def played(known: bool) -> Played:
    rng = np.random.default_rng(0)
    gap = rng.random(5).astype(np.float32) if known else None
    lips = {"edge": gap, "width": gap} if gap is not None else None
    seen = Seen(
        rng.random((478, 3)).astype(np.float32), rng.random((5, len(KEPT), 3)).astype(np.float32),
        np.array([1, 1, 0, 1, 1], bool), gap, lips,
    )  # fmt: skip
    return Played(
        seen, np.zeros((5, 63, 2), np.float32), np.ones((5, 26), np.float32), np.zeros(5, np.float32)
    )


def test_round_trip(tmp_path: Path) -> None:
    for known in (True, False):
        one = played(known)
        save_played(tmp_path / "a.safetensors", one, {"seed": 1})
        back = load_played(tmp_path / "a.safetensors", {"seed": 1})
        assert back is not None
        assert np.array_equal(back.seen.points, one.seen.points)
        assert np.array_equal(back.seen.found, one.seen.found)
        assert np.array_equal(back.commands, one.commands)
        assert (back.seen.gap is None) == (back.seen.lips is None) == (not known)
        if known:
            assert sorted(back.seen.lips or {}) == ["edge", "width"]


def test_another_key_or_a_torn_file_is_absent(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    assert load_played(file, {}) is None
    save_played(file, played(True), {"seed": 1})
    assert load_played(file, {"seed": 2}) is None
    file.write_bytes(file.read_bytes()[:200])
    assert load_played(file, {"seed": 1}) is None
    assert not list(tmp_path.glob("*.part"))
