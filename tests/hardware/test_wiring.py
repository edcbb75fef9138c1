"""Commands and units of the wire: round trips, limits, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetwin.hardware.wiring import KINDS, wiring_of
from facetwin.twin.errors import UsageError
from facetwin.twin.spec import load_rig

SPECS = [load_rig("face26"), load_rig("emo23")]
WIRINGS = st.sampled_from([(spec, wiring_of(spec, kind)) for spec in SPECS for kind in KINDS])


@given(WIRINGS, st.lists(st.floats(0, 1), min_size=26, max_size=26))
@settings(deadline=None, max_examples=60)
def test_round_trip(pair, values):
    spec, wiring = pair
    command = np.array(values[: spec.size])
    units = wiring.units(command)
    assert units.dtype == np.int64
    assert ((units >= wiring.low) & (units <= wiring.high)).all()
    step = 1 / np.abs(wiring.per_rad * spec.span)  # commands per unit
    assert (np.abs(wiring.commands(units) - command) <= step * 0.5000001).all()
    assert np.array_equal(wiring.units(wiring.commands(units)), units)
    assert np.array_equal(wiring.sent(units, command), command)


@given(WIRINGS, st.floats(-1e6, 1e6))
@settings(deadline=None)
def test_never_beyond_what_is_allowed(pair, far):
    spec, wiring = pair
    units = wiring.units(np.full(spec.size, far))
    assert ((units >= wiring.low) & (units <= wiring.high)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_inverse_of_unknown_is_unknown(kind):
    wiring = wiring_of(load_rig(), kind)
    units = np.full(26, np.nan)
    units[3] = wiring.zero[3]
    back = wiring.commands(units)
    assert np.isnan(back).sum() == 25
    assert back[3] == pytest.approx(load_rig().to_command(np.zeros(26))[3])


def test_units_by_hand():
    spec = load_rig()
    lid, yaw = spec.index("right_upper_lid"), spec.index("neck_yaw")
    maestro = wiring_of(spec, "maestro")
    # 1500 us at 0 rad; 500 to 2500 us over 180 degrees: 1.04 rad are 662.085 us, in quarters 2648.3
    assert maestro.units(np.ones(26))[lid] == 6000 + 2648
    assert maestro.units(np.full(26, 0.5))[yaw] == 6000
    dynamixel = wiring_of(spec, "dynamixel")
    # 4096 ticks a turn: -0.35 rad are -228.2
    assert dynamixel.units(np.zeros(26))[yaw] == 2048 - 228
    assert list(dynamixel.channel) == list(range(1, 27))
    assert set(dynamixel.bus) == {0}
    assert [maestro.bus[i] for i in (15, 16)] == [0, 1]


def test_hobby_degrees_are_the_published_pulses():
    """emo23: servo angles of 0 to 180 degrees become 500 to 2500 us, whichever way round it is mounted."""
    spec = load_rig("emo23")
    wiring = wiring_of(spec, "maestro")
    for i, motor in enumerate(spec.motors):
        servo = np.degrees(motor.sign * motor.rest)
        assert wiring.units(spec.rest)[i] == pytest.approx(4 * (500 + servo * 2000 / 180), abs=0.5 + 1e-6)


def test_changes():
    spec = load_rig()
    wiring = wiring_of(spec, "maestro", {"jaw": {"zero": 5000, "per_rad": -2000, "channel": 23, "bus": 1}})
    jaw = spec.index("jaw")
    assert (wiring.bus[jaw], wiring.channel[jaw]) == (1, 23)
    assert list(wiring.units(np.zeros(26)))[jaw] == 5000
    assert wiring.units(np.ones(26))[jaw] == 5000 - 1200
    others = np.arange(26) != jaw
    plain = wiring_of(spec, "maestro")
    for key in ("zero", "per_rad", "channel", "bus", "low", "high"):
        assert np.array_equal(getattr(wiring, key)[others], getattr(plain, key)[others])


def test_a_change_of_one_motor_leaves_the_others_where_they_were():
    spec = load_rig("emo23")
    own = {m.name: {"zero": 6000, "low": 0, "high": 16000} for m in spec.motors[:20]}
    assert np.array_equal(wiring_of(spec, "maestro", own).zero[20:], wiring_of(spec, "maestro").zero[20:])


@pytest.mark.parametrize("name", ["face26", "emo23"])
def test_a_motor_goes_where_it_goes_whatever_hangs_beside_it(name):
    from facetwin.hardware.composite import part_of

    spec = load_rig(name)
    whole = wiring_of(spec, "maestro")
    for i, motor in enumerate(spec.names):
        alone = wiring_of(part_of(spec, [motor]), "maestro")
        assert alone.units([0.3])[0] == whole.units(np.full(spec.size, 0.3))[i]


def test_the_tables_sign_turns_the_servo():
    spec = load_rig()
    turned = replace(spec, motors=tuple(replace(m, sign=-1) for m in spec.motors))
    command = np.linspace(0, 1, 26)
    a, b = (wiring_of(s, "dynamixel").units(command) for s in (spec, turned))
    assert np.array_equal(a - 2048, 2048 - b)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"jow": {}}, "no such motor; found jow.*jaw"),
        ({"jaw": {"zerro": 1}}, "no such key; found zerro.*zero"),
        ({"jaw": 5}, "not a table"),
        ({"jaw": {"zero": "x"}}, "jaw: zero"),
        ({"jaw": {"zero": float("nan")}}, "jaw: zero"),
        ({"jaw": {"zero": True}}, "jaw: zero"),
        ({"jaw": {"channel": 1.5}}, "whole number"),
        ({"jaw": {"channel": -1}}, "bad channel"),
        ({"jaw": {"channel": 128}}, "bad channel"),
        ({"jaw": {"bus": -1}}, "bad channel"),
        ({"jaw": {"per_rad": 0}}, "per_rad"),
        ({"jaw": {"channel": 0}}, "two motors on one channel; found bus 0, channel 0, as neck_yaw"),
        ({"jaw": {"zero": 9999}}, "does not fit; found 9999 to 11527.*2000 to 10000"),
        ({"jaw": {"high": 6500}}, "does not fit"),
    ],
)
def test_wrong_wiring_is_told(changes, says):
    with pytest.raises(UsageError, match=says) as caught:
        wiring_of(load_rig(), "maestro", changes)
    assert "\n" not in str(caught.value)


def test_a_motor_that_fits_nowhere_is_named():
    spec = load_rig()
    wide = replace(spec, motors=(*spec.motors[:-1], replace(spec.motors[-1], lower=-2.0, upper=2.0)))
    with pytest.raises(UsageError, match="left_corner_stretch"):
        wiring_of(wide, "maestro")


def test_unknown_kind():
    with pytest.raises(UsageError, match="maestro"):
        wiring_of(load_rig(), "maestros")


def test_it_cannot_be_changed():
    wiring = wiring_of(load_rig(), "maestro")
    for key in ("zero", "per_rad", "channel", "low"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(wiring, key)[0] = 1
