"""Promises of the lip-sync benchmark's figures, baselines, takes and clips."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetwin.policies.alignment import Onsets
from facetwin.policies.closed_loop import KEPT, Seen
from facetwin.policies.controllers import Controller, ReferenceClip
from facetwin.policies.lipsync_baselines import (
    Amplitude,
    Bank,
    Frozen,
    Nearest,
    Random,
    babbled,
    bank_of,
    flat_lips,
    nearest,
)  # fmt: skip
from facetwin.policies.lipsync_score import (
    BY_NAME,
    FIGURES,
    Estimate,
    Shown,
    Wanted,
    count,
    estimate,
    figure_values,
    late_by,
    quotient,
    ranking,
    resamples,
    stands_apart,
)  # fmt: skip
from facetwin.policies.lipsync_takes import Capture, load_take, save_take, take_key
from facetwin.policies.lipsync_verdict import all_counts, by_group, table, verdicts
from facetwin.policies.scores import Reference, score_faces
from facetwin.twin.couplings import Couplings
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.landmarks import canonical
from facetwin.twin.spec import load_rig

SPEC = load_rig()
REST = canonical().astype(np.float32)


def same(latents):
    return np.asarray(latents, np.float32)


def talk(name="a", pictures=60, seed=0, group="people"):
    """A reference whose lower lip goes up and down, with bilabials where it is shut."""
    rng = np.random.default_rng(seed)
    phase = np.arange(pictures) / 4 + rng.uniform(0, 6)
    moved = 0.06 * (1 - np.cos(phase)).astype(np.float32)
    points = np.repeat(REST[None, KEPT], pictures, 0)
    low = np.isin(KEPT, [14, 17, 84, 87, 178, 317, 402, 314, 405, 16, 15, 152, 148, 377])
    points[:, low, 1] -= moved[:, None]
    shut = np.flatnonzero(moved < 0.005) / 25
    wide = np.flatnonzero(moved > 0.11) / 25
    gap = (40 * moved).astype(np.float32)
    lips = {"width": 50 - 4 * moved, "edge": 3 + 10 * moved, "touch": moved, "forward": moved}
    latents = np.stack([np.sin(phase + k) for k in range(12)], 1).astype(np.float32)
    onsets = Onsets(tuple(shut), tuple(shut), tuple(shut), tuple(wide))
    return Wanted(name, group, Seen(REST, points, np.ones(pictures, bool), gap, lips), latents, onsets)


def answered(wanted, noise=0.0, seed=1, compute=2.0):
    """A rig that showed the reference, but for some noise."""
    rng = np.random.default_rng(seed)
    points = wanted.seen.points + noise * rng.normal(size=wanted.seen.points.shape).astype(np.float32)
    latents = wanted.latents + 10 * noise * rng.normal(size=wanted.latents.shape).astype(np.float32)
    commands = np.full((2 * len(wanted), 26), 0.5, np.float32)
    return Shown(replace(wanted.seen, points=points), latents, commands, commands, compute)


WANTED = [
    talk(f"clip{k}", 50 + 5 * k, k, group) for k, group in enumerate(("people", "people", "de", "singing"))
]


def test_the_reference_itself_is_without_error():
    counts = [count(late_by(one, 0), one) for one in WANTED]
    for name in ("latent distance", "latent error", "D-P", "D-V"):
        assert estimate(counts, BY_NAME[name]).value == pytest.approx(0, abs=1e-7)
    assert abs(estimate(counts, BY_NAME["offset"]).value) < 1
    assert estimate(counts, BY_NAME["closure - control, geometry"]).value == 1
    assert estimate(counts, BY_NAME["gap at bilabials"]).value < 0.2


@pytest.mark.parametrize("frames", [1, 3])
def test_a_late_reference_is_seen_to_be_late(frames):
    counts = [count(late_by(one, frames), one) for one in WANTED]
    assert estimate(counts, BY_NAME["offset"]).value == pytest.approx(
        40 * frames, abs=20
    )  # half a picture: clips are short
    assert estimate(counts, BY_NAME["D-P"]).value > 0


def test_pooled_figures_are_those_of_the_scores_module():
    shown = [answered(one, 0.004) for one in WANTED]
    counts = [count(a, b) for a, b in zip(shown, WANTED)]
    references = [
        Reference(one.name, one.seen.faces(), one.seen.found, one.onsets, one.seen.rest) for one in WANTED
    ]
    told = score_faces([one.seen.faces() for one in shown], references)
    for ours, theirs in (
        ("D-P", "D-P"), ("D-V", "D-V"), ("closure - control, tracker", "closure - control"),
        ("pucker - control, tracker", "pucker"), ("lip-teeth - control, tracker", "lip-teeth"),
        ("offset", "offset"), ("jerk", "jerk"),
    ):  # fmt: skip
        assert estimate(counts, BY_NAME[ours]).value == pytest.approx(told[theirs].value, rel=1e-4), ours


def test_another_face_at_rest_changes_nothing():
    wanted = WANTED[0]
    shown = answered(wanted, 0.003)
    other = REST + np.float32(0.05)
    moved = replace(shown, seen=replace(shown.seen, rest=other, points=shown.seen.points + np.float32(0.05)))
    a, b = count(shown, wanted), count(moved, wanted)
    assert a["position"] == pytest.approx(b["position"], rel=1e-4)


def test_pictures_without_a_face_count_nowhere():
    wanted, shown = WANTED[0], answered(WANTED[0])
    found = shown.seen.found.copy()
    found[20:] = False
    points = shown.seen.points.copy()
    points[20:] += 9
    blind = replace(shown, seen=replace(shown.seen, points=points, found=found))
    assert count(blind, wanted)["position"][0] == pytest.approx(0, abs=1e-5)
    assert count(blind, wanted)["position"][1] == 20


def test_takes_of_another_length_are_refused():
    with pytest.raises(FaceTwinError, match="differ"):
        count(answered(WANTED[0]), WANTED[1])


@given(st.integers(2, 9), st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_intervals_hold_the_value_of_equal_clips_and_repeat(clips, seed):
    counts = [count(answered(WANTED[0], 0.004), WANTED[0])] * clips
    one = estimate(counts, BY_NAME["D-P"], draws=50, seed=seed)
    assert one.low == pytest.approx(one.value)
    assert one.high == pytest.approx(one.value)
    assert estimate(counts, BY_NAME["D-P"], draws=50, seed=seed) == one


def test_intervals_are_ordered_and_quotients_paired():
    worse = [count(answered(one, 0.01 + 0.002 * k), one) for k, one in enumerate(WANTED)]
    better = [count(answered(one, 0.005 + 0.001 * k), one) for k, one in enumerate(WANTED)]
    for figure in FIGURES:
        one = estimate(worse, figure, draws=200)
        assert not one.low > one.high
    ratio = quotient(better, worse, BY_NAME["D-P"])
    assert ratio.value == pytest.approx(0.5, rel=0.02)
    spread = estimate(worse, BY_NAME["D-P"])
    assert ratio.high - ratio.low < (spread.high - spread.low) / spread.value


def test_a_single_clip_has_no_interval():
    one = estimate([count(answered(WANTED[0], 0.01), WANTED[0])], BY_NAME["D-P"])
    assert np.isfinite(one.value)
    assert np.isnan(one.low)


def test_draws_are_the_same_for_all_methods():
    assert np.array_equal(resamples(5, 40, 3), resamples(5, 40, 3))
    counts = [count(answered(one, 0.01), one) for one in WANTED]
    every = figure_values(counts, BY_NAME["D-P"], np.arange(4)[None])
    assert every[0] == pytest.approx(estimate(counts, BY_NAME["D-P"]).value)


def test_ranks_put_the_unknown_last_and_know_both_directions():
    nan = float("nan")
    values = {"a": Estimate(1, 0.9, 1.1), "b": Estimate(2, 1.2, 2.2), "c": Estimate(nan, nan, nan)}
    assert ranking(values, "low") == ["a", "b", "c"]
    assert ranking(values, "high") == ["b", "a", "c"]
    assert stands_apart(values, "a", ["b"], "low")
    assert not stands_apart(values, "a", ["b"], "high")
    assert not stands_apart(values, "a", ["b", "c"], "low")


def test_verdicts_say_met_and_missed():
    shown = {
        "transformer": [answered(one, 0.001) for one in WANTED],
        "frozen": [answered(one, 0.05, compute=0.1) for one in WANTED],
        "random": [answered(one, 0.1) for one in WANTED],
        "late-1": [late_by(one, 1) for one in WANTED],
    }
    sums = all_counts(shown, WANTED)
    whole = table(sums, draws=200, seed=0)
    told = {one.what: one for one in verdicts(sums, whole, draws=200, seed=0)}
    assert told["latent distance, transformer / frozen best face"].met
    assert told["rank of transformer on D-P"].met
    assert told["transformer, one core"].met  # 2 ms a frame
    swapped = {**sums, "transformer": sums["frozen"], "frozen": sums["transformer"]}
    told = {one.what: one for one in verdicts(swapped, table(swapped, draws=200, seed=0), draws=200, seed=0)}
    assert told["latent distance, transformer / frozen best face"].met is False
    assert told["rank of transformer on D-P"].met is False
    assert not verdicts({"random": sums["random"]}, whole, draws=200, seed=0)


def test_groups_are_parts_of_the_whole():
    sums = all_counts({"random": [answered(one, 0.01) for one in WANTED]}, WANTED)
    groups = by_group(sums, [one.group for one in WANTED], draws=100, seed=0)
    assert list(groups) == ["people", "de", "singing"]
    whole = table(sums, draws=100, seed=0)["random"]["D-P"].value
    parts = [groups[g]["random"]["D-P"].value for g in groups]
    assert min(parts) <= whole <= max(parts)


def test_takes_come_back_to_the_bit_and_only_under_their_key(tmp_path):
    crops = np.random.default_rng(0).integers(0, 256, (len(WANTED[0]), 128, 128, 3), np.uint8)
    rows = np.random.default_rng(1).uniform(size=(90, 26)).astype(np.float32)
    take, path = Capture(WANTED[0].seen, crops, rows, rows / 2), tmp_path / "a" / "take.safetensors"
    key = take_key(rig="sim:", commands=rows, seed=3)
    save_take(path, take, key)
    back = load_take(path, key)
    assert back is not None
    assert np.array_equal(back.crops, crops)
    assert np.array_equal(back.seen.points, take.seen.points)
    assert np.array_equal(back.asked, rows)
    assert np.array_equal(back.sent, rows / 2)
    assert back.seen.lips.keys() == take.seen.lips.keys()
    assert load_take(path, take_key(rig="sim:", commands=rows + 1, seed=3)) is None
    assert load_take(tmp_path / "none.safetensors", key) is None
    (tmp_path / "torn.safetensors").write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert load_take(tmp_path / "torn.safetensors", key) is None
    assert not list(tmp_path.rglob("*.part"))


def bank(count=300, seed=0):
    rng = np.random.default_rng(seed)
    commands = rng.uniform(size=(count, 26)).astype(np.float32)
    return bank_of(commands, lambda rows: (face(rows), rows[:, :16] * 2), lambda done: None)


def face(rows):
    points = np.repeat(REST[None], len(rows), 0)
    points[:, 13:18, 1] += rows[:, :5]
    return points


def reference(rows, name="r"):
    sound = np.random.default_rng(0).normal(size=640 * len(rows)).astype(np.float32) * 0.1
    return ReferenceClip(name, face(rows).astype(np.float32), (rows[:, :16] * 2).astype(np.float32), sound)


@pytest.mark.parametrize("by", ["landmarks", "latents"])
def test_nearest_neighbours_find_themselves_in_the_whole_set(by):
    known = bank()
    one = Nearest(known, by, same)
    assert isinstance(one, Controller)
    rows = known.commands[[299, 0, 150]]
    assert np.array_equal(one.commands(reference(rows)), rows)
    parts = [one.stream().push(reference(rows)[k : k + 1]) for k in range(3)]
    assert np.array_equal(np.concatenate(parts), rows)
    with pytest.raises(UsageError, match="likeness"):
        Nearest(known, "smell", same)


def test_nearest_is_the_brute_force_one():
    rng = np.random.default_rng(1)
    known, goal = rng.normal(size=(400, 7)).astype(np.float32), rng.normal(size=(90, 7)).astype(np.float32)
    far = ((goal[:, None] - known[None]) ** 2).sum(2)
    assert np.array_equal(nearest(known, goal), far.argmin(1))


def test_the_frozen_face_is_the_best_of_all_constants():
    known = bank(60)
    goal = reference(bank(20, seed=5).commands)
    for by in ("landmarks", "latents"):
        rows = Frozen(known, by, same).commands(goal)
        assert (rows == rows[0]).all()
        assert len(rows) == 20
        if by == "latents":
            each = np.sqrt(((known.latents[:, None] - goal.latents[None]) ** 2).sum(2)).mean(1)
            assert np.array_equal(rows[0], known.commands[each.argmin()])
    with pytest.raises(FaceTwinError, match="afterwards"):
        Frozen(known, "latents", same).stream()


def test_random_repeats_with_its_seed_and_differs_between_clips():
    known = bank()
    rows = bank(30, seed=2).commands
    a = Random(known, 1).commands(reference(rows))
    assert np.array_equal(a, Random(known, 1).commands(reference(rows)))
    assert not np.array_equal(a, Random(known, 1).commands(reference(rows, "other")))
    assert not np.array_equal(a, Random(known, 2).commands(reference(rows)))


def test_the_amplitude_finds_a_gain_that_is_there_and_leaves_the_eyes_alone():
    clip = reference(np.zeros((40, 26), np.float32))
    from facetwin.policies.baselines import loudness

    loud = loudness(clip.samples, 40)
    good = np.repeat(SPEC.rest[None], 40, 0).astype(np.float32)
    jaw = SPEC.index("jaw")
    good[:, jaw] = 0.1 + 2 * loud[:, 0]
    good[:, SPEC.group("eyes")] = 0.9
    rows = Amplitude.fit([clip], [good], SPEC).commands(clip)
    assert rows[:, jaw] == pytest.approx(good[:, jaw], abs=1e-4)
    assert np.allclose(rows[:, SPEC.group("eyes")], SPEC.rest[SPEC.group("eyes")], atol=1e-6)


def test_babbled_poses_are_allowed_and_repeat():
    poses = babbled(SPEC, 200, seed=4)
    assert np.array_equal(poses, babbled(SPEC, 200, seed=4))
    rule = Couplings(SPEC)  # what was put on an edge may lie a rounding beyond it
    assert max(np.abs(rule.project(pose) - pose).max() for pose in poses.astype(float)) < 1e-5
    mouth = np.concatenate([SPEC.group("jaw"), SPEC.group("lips")])
    still = np.setdiff1d(np.arange(SPEC.size), mouth)
    assert np.allclose(poses[:, still], SPEC.rest[still], atol=1e-6)
    with pytest.raises(UsageError, match="without a pose"):
        babbled(SPEC, 0)


def test_banks_join_and_keep_what_they_saw():
    a, b = bank(30), bank(20, seed=9)
    both = a.joined(b)
    assert len(both) == 50
    assert isinstance(both, Bank)
    assert np.array_equal(both.lips[30:], b.lips)
    assert np.array_equal(a.lips, flat_lips(face(a.commands)))
