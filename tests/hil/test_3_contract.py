"""Rung 3: the rig keeps the contract, bare and behind its safety layer."""

from __future__ import annotations

import pytest

from facetwin.hardware.check import RULES, check_rig
from facetwin.hardware.names import make_rig
from facetwin.hardware.safety import SafetyLayer

pytestmark = [pytest.mark.hil, pytest.mark.rung(3, "contract"), pytest.mark.faulty]


@pytest.fixture(scope="module")
def fresh(bare, rig_name):
    """The rig as it is made, never opened: some rules are about that."""
    rig = make_rig(rig_name)
    yield rig
    rig.close()
    if hasattr(rig, "emulator"):
        rig.emulator.stop()


@pytest.mark.parametrize("behind", ["bare", "safety layer"])
def test_contract(fresh, behind):
    report = check_rig(fresh if behind == "bare" else SafetyLayer(fresh))
    assert set(report.passed) | set(report.skipped) == set(RULES)
    if fresh.capabilities.measures:
        assert not report.skipped
