"""The driver against the box as a program: the rules of every rig, and what can go wrong on its wire."""

import numpy as np
import pytest
from facetwin_blinkbox import BlinkBox
from facetwin_blinkbox.box import Box

from facetwin.hardware.check import RULES, check_rig
from facetwin.hardware.names import open_rig
from facetwin.hardware.rig import RigFault
from facetwin.hardware.safety import SafetyLayer
from facetwin.twin.errors import FaceTwinError, UsageError


@pytest.fixture
def box():
    box = Box()
    yield box
    box.close()


@pytest.mark.parametrize("safe", [False, True])
def test_it_keeps_the_contract(box, safe):
    rig = BlinkBox(box.address)
    report = check_rig(SafetyLayer(rig) if safe else rig)
    assert set(report.passed) | set(report.skipped) == set(RULES)
    assert report.skipped == {"pictures are whole and timed": "it has no camera"}


def test_it_is_a_rig_by_name(box):
    with open_rig(f"blinkbox:{box.address}") as rig:
        assert rig.spec.names == ("right_lid", "left_lid")
        rig.activate()
        for _ in range(20):
            rig.write([1.0, 0.0])
            rig.clock.sleep(0.02)
        assert box.heard[-1][0] in ("GO", "SEE")
        state = rig.read()
        np.testing.assert_allclose(state.measured, [1.0, 0.0], atol=0.01)
        np.testing.assert_allclose(box.place, [600, 1800], atol=1)
        assert state.voltage[0] == pytest.approx(5.02)
    assert not box.on


def test_both_lids_do_not_shut_at_once(box):
    with open_rig(f"blinkbox:{box.address}") as rig:
        rig.activate()
        for _ in range(40):
            sent = rig.write([1.0, 1.0])
            rig.clock.sleep(0.01)
        assert sorted(sent) == [pytest.approx(0.9), 1.0]


def test_lost_and_spoilt_packets_are_asked_for_again(box):
    with BlinkBox(box.address, timeout=0.03) as rig:
        rig.activate()
        box.drop = 1
        rig.write([0.3, 0.3])
        box.spoil = 2
        assert rig.read().measured.shape == (2,)
        assert rig.status.retries == 3
        box.drop = 3
        with pytest.raises(RigFault, match="does not answer GO"):
            rig.write([0.4, 0.4])
        assert rig.status.state == "held"


def test_what_the_box_complains_of_stops_the_face(box):
    with open_rig(f"blinkbox:{box.address}") as rig:
        rig.activate()
        box.fault = "lid-jammed"
        rig.clock.sleep(0.4)  # the safety layer looks by itself
        with pytest.raises(RigFault, match="lid-jammed"):
            rig.write([0.3, 0.3])


def test_what_is_not_right_is_told(box):
    box.firmware = 1
    with pytest.raises(FaceTwinError, match=r"firmware of another version.*expected 2"):
        BlinkBox(box.address).open()
    box.close()
    with pytest.raises(FaceTwinError, match=r"no answer.*switched on"):
        BlinkBox(box.address).open()
    with pytest.raises(UsageError, match="not an address"):
        BlinkBox("here:there")
