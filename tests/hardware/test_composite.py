"""A face over several buses: one state machine, nothing moves alone, and every reason names its bus."""

import contextlib
from dataclasses import replace

import numpy as np
import pytest
from fakes import FakeState, FakeTwin, Script, ScriptedRig

from facetwin.hardware.check import RULES, check_rig
from facetwin.hardware.clock import SimClock
from facetwin.hardware.composite import CompositeRig, part_of
from facetwin.hardware.eye import Eye
from facetwin.hardware.names import make_rig
from facetwin.hardware.rig import Frame, Rig, RigFault
from facetwin.hardware.safety import SafetyLayer
from facetwin.hardware.sim import SimRig
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.spec import load_rig

FACE = load_rig("face26")
#: motors of two buses, in an order that is not the table's
HALVES = {"lower": FACE.names[::-2], "upper": FACE.names[::2]}


class Blind(SimRig):
    @property
    def capabilities(self):
        return replace(super().capabilities, camera=None, truth=False)


class HalfTwin(FakeTwin):
    def move(self, position):
        return FakeState(position.copy(), np.repeat(position[:, None], 3, axis=1), 0.0)


def halves(eyes=("upper",)) -> CompositeRig:
    clock, parts = SimClock(), {}
    for name, motors in HALVES.items():
        spec = part_of(FACE, motors)
        kind = SimRig if name in eyes else Blind
        parts[name] = kind(spec, twin=HalfTwin(spec), size=(24, 16), clock=clock)
    return CompositeRig(FACE, parts)


def scripted(**scripts) -> CompositeRig:
    parts = {}
    clock = SimClock()
    for name, motors in HALVES.items():
        parts[name] = ScriptedRig(part_of(FACE, motors), scripts.get(name) or Script())
        parts[name].clock = clock
    return CompositeRig(FACE, parts)


def states(rig: CompositeRig) -> set[str]:
    return {rig.status.state} | {part.status.state for part in rig.parts.values()}


@pytest.mark.parametrize("safe", [False, True])
def test_two_simulated_halves_keep_the_contract(safe):
    rig: Rig = halves()
    report = check_rig(SafetyLayer(rig) if safe else rig)
    assert set(report.passed) == set(RULES)


def test_a_part_is_a_table_of_its_own():
    part = part_of(FACE.with_({"limits.jaw": (0.0, 0.5)}), ["jaw", "neck_yaw"])
    assert part.names == ("jaw", "neck_yaw")
    assert part.soft_limits[1][0] == 0.5
    assert part.rest[1] == FACE.rest[0]
    assert part.couplings == ()
    with pytest.raises(UsageError, match="did you mean jaw"):
        part_of(FACE, ["jww"])


def test_commands_fan_out_and_states_come_back_in_the_tables_order():
    rig = scripted(lower=Script(temperature=40.0), upper=Script(faults=("jaw: hot",)))
    with rig:
        rig.activate()
        command = np.random.default_rng(0).random(26)
        np.testing.assert_array_equal(rig.write(command), command)
        for part in rig.parts.values():
            np.testing.assert_array_equal(
                part.script.sent[-1], [command[FACE.index(n)] for n in part.spec.names]
            )
        state = rig.read()
        np.testing.assert_array_equal(state.measured, command)
        np.testing.assert_array_equal(state.commanded, command)
        assert {state.temperature[FACE.index(n)] for n in HALVES["lower"]} == {40.0}
        assert {state.temperature[FACE.index(n)] for n in HALVES["upper"]} == {30.0}
        assert state.faults == ("upper: jaw: hot",)


def test_states_follow():
    rig = scripted()
    assert states(rig) == {"closed"}
    rig.open()
    assert states(rig) == {"open"}
    rig.activate()
    assert states(rig) == {"active"}
    rig.hold()
    assert states(rig) == {"held"}
    rig.write(FACE.rest)
    assert states(rig) == {"active"}
    rig.release()
    assert states(rig) == {"open"}
    rig.close()
    assert states(rig) == {"closed"}
    for part in rig.parts.values():
        assert part.script.calls == ["open", "activate", "hold", "write", "release", "release", "close"]


@pytest.mark.parametrize("silent", ["lower", "upper"])
def test_one_silent_bus_holds_then_releases_all(silent):
    rig = scripted()
    script, other = (rig.parts[n].script for n in (silent, {"lower": "upper", "upper": "lower"}[silent]))
    with rig:
        rig.activate()
        rig.write(FACE.rest)
        script.write_fails = 1
        rig.write(FACE.rest)  # a failure of the moment
        assert rig.status.retries == 1
        script.write_fails = 3
        with pytest.raises(RigFault, match=f"{silent}: servo 5 is silent"):
            rig.write(FACE.rest)
        assert states(rig) == {"held"}
        assert other.calls[-1] == script.calls[-1] == "hold"
        rig.write(FACE.rest)
        script.write_fails = 3
        with pytest.raises(RigFault):
            rig.write(FACE.rest)
        script.write_fails = 10**6
        with pytest.raises(RigFault):
            rig.write(FACE.rest)
        assert states(rig) == {"open"}
        assert other.calls[-1] == "release"
        assert f"{silent}: servo 5 is silent" in rig.status.reason
        with pytest.raises(FaceTwinError, match="activate"):
            rig.write(FACE.rest)


@pytest.mark.parametrize("hook", ["_open", "_activate", "_release", "_close", "_hold"])
@pytest.mark.parametrize("broken", ["lower", "upper"])
def test_what_fails_on_one_bus_is_done_on_the_other(hook, broken):
    rig = scripted()

    def fail(*_):
        raise OSError("cable pulled")

    setattr(rig.parts[broken], hook, fail)
    good = next(p for n, p in rig.parts.items() if n != broken)
    with pytest.raises((OSError, FaceTwinError), match=f"{broken}: cable pulled"):
        through_its_life(rig)
    rig.status.state = "open"
    with contextlib.suppress(OSError, FaceTwinError):
        rig.close()
    assert good.script.calls[-1] == "close"
    if "activate" in good.script.calls:
        assert "release" in good.script.calls[good.script.calls.index("activate") :]


def through_its_life(rig):
    for step in (rig.open, rig.activate, rig.hold, rig.release, rig.close):
        step()


def test_a_short_answer_of_one_bus_is_asked_for_again():
    rig = scripted()
    lower = rig.parts["lower"]
    whole, short = lower._read, iter([True])

    def read():
        state = whole()
        return replace(state, measured=state.measured[:-1]) if next(short, False) else state

    lower._read = read
    with rig:
        assert rig.read().measured.shape == (26,)
    assert rig.status.retries == 1


def test_behind_the_safety_layer_one_bus_latches_the_face():
    rig = SafetyLayer(scripted())
    with rig:
        rig.activate()
        rig.inner.parts["upper"].script.faults = ("jaw: overload",)
        rig.clock.sleep(0.3)  # nobody reads
        with pytest.raises(RigFault, match="upper: jaw: overload"):
            rig.write(FACE.rest)
        rig.clock.sleep(3.0)
        assert states(rig.inner) == {"open"}


class OneColour(Eye):
    shape = (16, 24, 3)

    def __init__(self, clock):
        self.clock, self.calls = clock, []

    def open(self):
        self.calls.append("open")

    def look(self):
        return Frame(np.full(self.shape, 7, np.uint8), True, self.clock.now())

    def close(self):
        self.calls.append("close")


def test_an_eye_of_the_whole_face():
    rig = halves(eyes=())
    assert rig.capabilities.camera is None
    rig.eye = OneColour(rig.clock)
    assert rig.capabilities.camera == (16, 24, 3)
    with rig:
        assert rig.capture().image.mean() == 7
    assert rig.eye.calls == ["open", "close"]


def test_parts_must_make_up_the_face():
    one, two = (ScriptedRig(part_of(FACE, m)) for m in HALVES.values())
    two.clock = one.clock
    with pytest.raises(UsageError, match="motors on no bus; found neck_pitch"):
        CompositeRig(FACE, {"one": two})
    with pytest.raises(UsageError, match="a motor on two buses; found left_corner_stretch"):
        CompositeRig(FACE, {"one": one, "again": one})
    other = ScriptedRig(part_of(FACE.with_({"motor.jaw.max_speed": 3.0}), HALVES["lower"]))
    other.clock = one.clock
    with pytest.raises(UsageError, match="another table; found jaw"):
        CompositeRig(FACE, {"one": other, "two": two})
    with pytest.raises(UsageError, match="a safety layer within a face"):
        CompositeRig(FACE, {"one": SafetyLayer(one), "two": two})
    with pytest.raises(UsageError, match="several cameras"):
        halves(eyes=("upper", "lower"))
    two.clock = SimClock()
    with pytest.raises(UsageError, match="one clock for all"):
        CompositeRig(FACE, {"one": one, "two": two})
    with pytest.raises(UsageError, match="no buses"):
        CompositeRig(FACE, {})


@pytest.mark.slow
def test_two_emulated_boards_on_two_ports_keep_the_contract(tmp_path):
    path = tmp_path / "face.toml"
    path.write_text("""
    table = "face26"
    [[bus]]
    name = "head"
    rig = "emulated:maestro?camera=false"
    motors = ["neck", "eyes", "lids", "brows", "jaw"]
    [[bus]]
    name = "mouth"
    rig = "emulated:dynamixel?camera=false"
    motors = ["lips"]
    """)
    rig = make_rig(str(path))
    assert isinstance(rig, CompositeRig)
    assert rig.capabilities.harmless
    for one in (rig, SafetyLayer(rig)):
        report = check_rig(one)
        assert set(report.passed) | set(report.skipped) == set(RULES)
        assert set(report.skipped) <= {"pictures are whole and timed"}
