"""`check_rig` must fail on rigs that are broken on purpose, one for each rule."""

from dataclasses import replace

import numpy as np
import pytest
from fakes import FakeTwin, ScriptedRig

from facetwin.hardware.check import RULES, check_rig
from facetwin.hardware.rig import CLOSED, OPEN, Rig
from facetwin.hardware.safety import SafetyLayer
from facetwin.hardware.sim import SimRig
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.spec import load_rig

FACE = load_rig("face26")


class Good(SimRig):
    def __init__(self):
        super().__init__(FACE, twin=FakeTwin(FACE), size=(24, 16))


def patched(**methods) -> Rig:
    """A rig whose public methods are replaced, as someone could who does not build on `Rig`."""
    rig = Good()
    for name, method in methods.items():
        setattr(rig, name, method.__get__(rig))
    return rig


class OpenAtOnce(Good):
    def __init__(self):
        super().__init__()
        self.open()


class MisstatesCamera(Good):
    @property
    def capabilities(self):
        return replace(super().capabilities, simulated=False)


class MovesOnOpen(Good):
    def _open(self):
        super()._open()
        self._write(np.full(26, 0.9))


class SnapsToRest(Good):
    def _activate(self, present):
        super()._activate(self.spec.rest.copy())


class Echoes(Good):
    def _read(self):
        state = super()._read()
        return replace(state, measured=state.commanded.copy())


class RunsBackwards(Good):
    def _read(self):
        return replace(super()._read(), time=-self.clock.now())


class OldPicture(Good):
    def _capture(self):
        return replace(super()._capture(), time=0.0)


class HoldsNothing(Good):
    def _hold(self):
        self._target = np.full(26, 0.1)


class LiesAboutSent(Good):
    def _write(self, command):
        super()._write(command)
        return np.clip(command + 0.05, 0, 1)

    def _read(self):
        return replace(super()._read(), commanded=self._target.copy())


class NeverRetries(Good):
    retries = 0


def write_always(self, command):
    if self.status.state == CLOSED:
        raise FaceTwinError("closed")
    self.status.writes += 1
    return np.asarray(command, dtype=float)


def write_silently(self, command):
    out = Rig.write(self, command)
    self.status.clipped = {}
    return out


def partial(self, what, call, check=None):
    return Rig._attempt(self, what, call)


def give_up_at_nothing(self, what, error):
    self.status.reason = ""


def release_twice_fails(self):
    if self.status.state == OPEN:
        raise FaceTwinError("it is not on")
    Rig.release(self)


def close_once(self):
    if self.status.state == CLOSED:
        raise FaceTwinError("closed already")
    Rig.close(self)


class LeavesItOn(Good):
    def __exit__(self, *_):
        self.status.state = CLOSED


BROKEN = {
    "starts closed": OpenAtOnce,
    "capabilities are known before opening": MisstatesCamera,
    "opening does not move": MovesOnOpen,
    "write before activate raises": lambda: patched(write=write_always),
    "activate takes the present pose": SnapsToRest,
    "a bad command raises and changes nothing": lambda: patched(
        write=lambda self, c: Rig.write(self, np.nan_to_num(np.asarray(c, dtype=float)))
    ),
    "out of range is clipped and reported": lambda: patched(write=write_silently),
    "write returns what was sent": LiesAboutSent,
    "a state is whole and timed": RunsBackwards,
    "measured is never an echo": Echoes,
    "pictures are whole and timed": OldPicture,
    "hold stands still": HoldsNothing,
    "a failure of the moment is retried": NeverRetries,
    "a partial answer is retried": lambda: patched(_attempt=partial),
    "a silent servo is held, then released, with the reason": lambda: patched(_give_up=give_up_at_nothing),
    "release works from every state": lambda: patched(release=release_twice_fails),
    "close twice is fine": lambda: patched(close=close_once),
    "release on exceptions": LeavesItOn,
}


def test_there_is_a_broken_rig_for_each_rule():
    assert tuple(BROKEN) == RULES
    assert check_rig(Good()).passed == RULES


@pytest.mark.parametrize("rule", RULES)
def test_a_broken_rig_is_caught_by_its_rule(rule):
    rig = BROKEN[rule]()
    with pytest.raises(FaceTwinError, match="broken rule: " + rule) as error:
        check_rig(rig)
    assert "\n" not in str(error.value)


def test_what_cannot_be_asked_is_skipped_with_a_reason():
    rig = ScriptedRig()  # servos that jump: nothing physical, and no camera
    with pytest.raises(FaceTwinError, match="measured is never an echo"):
        check_rig(rig)
    emo = load_rig("emo23")
    report = check_rig(SafetyLayer(SimRig(emo, twin=FakeTwin(emo), size=(24, 16))))
    assert report.skipped == {"measured is never an echo": "it does not measure"}
    assert "skip  measured" in str(report)
    assert "ok    starts closed" in str(report)
