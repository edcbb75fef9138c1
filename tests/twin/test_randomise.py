"""Drawing other rigs from the ranges of a rig file."""

from __future__ import annotations

import numpy as np
import pytest

from facetwin.twin.errors import UsageError
from facetwin.twin.randomise import chosen, draw
from facetwin.twin.spec import load_rig, rig_names

FACE = load_rig("face26")


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", rig_names())
def test_every_range_is_drawn_within_its_ends_and_told(name):
    spec = load_rig(name)
    ranges = chosen(spec)
    for seed in range(5):
        other, drawn = draw(spec, rng(seed))
        assert set(drawn) == set(ranges)
        for key, value in drawn.items():
            low, high = ranges[key]
            assert low <= value <= high
        assert spec.with_(drawn) == other  # what is told is all there is
        assert other.hash != spec.hash
        assert other.names == spec.names


def test_the_same_seed_is_the_same_rig():
    a, b, c = (draw(FACE, rng(s)) for s in (3, 3, 4))
    assert a == b
    assert a[0].hash == b[0].hash != c[0].hash
    assert load_rig("face26") == FACE


def test_every_physical_and_optical_parameter_has_a_range():
    ranges = " ".join(FACE.ranges)
    wanted = """max_speed dead_band backlash latency natural_frequency damping_ratio scale trim pull.stiffness
        anchor young thickness density foundation creep_share creep_time mode_damping distance elevation
        vertical_fov delay rate noise exposure position_error.0 position_error.1 position_error.2
        rotation_error.0 rotation_error.1 rotation_error.2 background light.direction light.intensity
        light.ambient"""
    assert [word for word in wanted.split() if word not in ranges] == []


def test_some_of_it():
    other, drawn = draw(FACE, rng(), ["servo.*", "camera.*"])
    assert {key.split(".")[0] for key in drawn} == {"servo", "camera"}
    assert other.material == FACE.material
    one, drawn = draw(FACE, rng(), "motor.jaw.*")
    assert list(drawn) == ["motor.jaw.scale", "motor.jaw.trim"]
    assert one.motors[one.index("jaw")].scale == drawn["motor.jaw.scale"] != 1
    assert one.motors[0] == FACE.motors[0]
    for nothing in (None, False, []):
        assert draw(FACE, rng(), nothing) == (FACE, {})


def test_ranges_of_ones_own():
    other, drawn = draw(FACE, rng(), {"material.young": (8e4, 1e5), "motor.*.latency": (0.01, 0.02)})
    assert 8e4 <= other.material.young <= 1e5
    assert len({m.latency for m in other.motors}) == FACE.size == len(drawn) - 1
    fixed, drawn = draw(FACE, rng(), {"camera.mirror.distance": (0.4, 0.4)})
    assert fixed.cameras["mirror"].distance == drawn["camera.mirror.distance"] == 0.4


def test_a_factor_keeps_slow_motors_slow():
    other, drawn = draw(FACE, rng(1), "servo.natural_frequency.factor")
    factor = drawn["servo.natural_frequency.factor"]
    for before, after in zip(FACE.motors, other.motors, strict=True):
        assert after.natural_frequency == pytest.approx(factor * before.natural_frequency)


def test_wide_ranges_are_drawn_by_their_logarithm():
    one, wide = rng(), {"material.foundation": (1e2, 1e6)}
    some = [draw(FACE, one, wide)[0].material.foundation for _ in range(80)]
    assert 0.3 < np.mean(np.array(some) < 1e4) < 0.7  # uniform draws would leave 1 % there


@pytest.mark.parametrize(("which", "words"), [
    ("material.yung", ["no such range", "did you mean material.young"]),
    (["camera.*", "servo.speed"], ["no such range", "servo.speed"]),
    (3, ["not a choice", "3"]),
    ({"material.young": (8e4,)}, ["material.young", "not a range", "[low, high]"]),
    ({"material.young": (2e5, 1e5)}, ["material.young", "not a range", "low <= high"]),
    ({"material.young": (np.nan, 1e5)}, ["material.young", "not a range"]),
    ({"material.young": "ab"}, ["material.young", "not a range"]),
    ({"material.young": (1, 2)}, ["material.young", "out of range", "1000"]),
    ({"material.yung": (1, 2)}, ["material.yung"]),
    ({"motor.jow.latency": (0, 1)}, ["jow", "did you mean jaw"]),
    ({"motor.*.lateness": (0, 1)}, ["motor.*.lateness", "no such key"]),
    ({"camera.mirror.width.factor": (0.4, 0.6)}, ["width", "whole number"]),
    ({"camera.mirror.mirror.factor": (0.4, 0.6)}, ["no such number to multiply"]),
])  # fmt: skip
def test_wrong_choices_are_told_in_one_line(which, words):
    with pytest.raises(UsageError) as error:
        draw(FACE, rng(), which)
    text = str(error.value)
    assert "\n" not in text
    for word in words:
        assert word in text
