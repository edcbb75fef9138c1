"""Hardware in the loop: a ladder of tests on the rig named by --rig; each ends with the rig's health.

Rungs go up from bytes to policies. When one fails, what is above it is skipped with that reason: a face
whose frames are wrong should not be moved, one that cannot be moved says nothing about policies.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from facetwin.hardware.names import make_rig, parse_name
from facetwin.hardware.rig import Rig
from facetwin.hardware.safety import SafetyLayer

#: share of driver calls that may have to be repeated before a rig counts as ill
RETRIES = 0.01
#: degrees C
HOT = 65.0
#: counters of the emulated robot that stay where they are unless a test injects faults
WELL = ("bad", "framing", "collisions", "dropped", "flipped", "strange")

FAILED: dict[int, str] = {}  # rung -> the test that failed


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*capabilities): measures, camera, emulated; skipped without")
    config.addinivalue_line("markers", "rung(number, name): place on the hil ladder")
    config.addinivalue_line("markers", "faulty: this test injects faults, so counters may rise")


def pytest_runtest_setup(item: pytest.Item) -> None:
    rung = item.get_closest_marker("rung")
    if rung is None or not item.config.getoption("--rig"):
        return
    below = {number: why for number, why in FAILED.items() if number < rung.args[0]}
    if below:
        number, why = min(below.items())
        pytest.skip(f"rung {number} failed: {why}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    outcome = yield
    report = outcome.get_result()
    rung = item.get_closest_marker("rung")
    if rung is not None and report.failed:
        FAILED.setdefault(rung.args[0], f"{rung.args[1]}: {item.name}")


@pytest.fixture(scope="session")
def bare(rig_name: str, request: pytest.FixtureRequest) -> Any:
    """The rig without safety layer, closed; the same for the whole session."""
    rig = make_rig(rig_name)
    if not (rig.capabilities.harmless or request.config.getoption("--may-move")):
        pytest.fail(f"{rig_name} moves: clear the space around it, then add --may-move")
    yield rig
    with contextlib.suppress(Exception):
        rig.close()
    if hasattr(rig, "emulator"):
        rig.emulator.stop()


@pytest.fixture(autouse=True)
def _able(request: pytest.FixtureRequest) -> None:
    """Skip what this rig cannot do."""
    marker = request.node.get_closest_marker("needs")
    if marker is None:
        return
    able = request.getfixturevalue("bare").capabilities
    for what in marker.args:
        if not getattr(able, what):
            pytest.skip({"camera": "this rig has no camera", "measures": "this rig's servos do not measure",
                         "emulated": "this rig is not emulated"}[what])  # fmt: skip


@dataclass
class Health:
    """What is watched of a rig during a test."""

    rig: Rig
    layer: SafetyLayer
    retries: int = 0
    calls: int = 0
    counters: dict[str, Any] = field(default_factory=dict)

    def begin(self) -> None:
        self.retries, self.calls = self.rig.status.retries, self.rig.status.writes
        if hasattr(self.rig, "emulator"):
            self.counters = self.rig.emulator.health()

    def check(self, faulty: bool) -> list[str]:
        """What is wrong with it, in words."""
        wrong = []
        if self.layer.fault:
            wrong.append(f"a fault is latched: {self.layer.fault}")
        if self.layer.status.state != "closed":
            state = self.layer.read()
            if state.faults:
                wrong.append(f"servos complain: {', '.join(state.faults)}")
            if np.nanmax(state.temperature, initial=-np.inf) > HOT:
                wrong.append(f"hot: {np.nanmax(state.temperature):.0f} C")
        calls = 2 * (self.rig.status.writes - self.calls) + 20
        retries = self.rig.status.retries - self.retries
        if not faulty and retries > max(1.0, RETRIES * calls):
            wrong.append(f"{retries} of about {calls} driver calls had to be repeated")
        if self.counters and self.rig.emulator.running:  # type: ignore[attr-defined]
            now = self.rig.emulator.health()  # type: ignore[attr-defined]
            if now["strange"] > self.counters["strange"]:
                wrong.append(f"{now['strange'] - self.counters['strange']} goals that nobody had sent")
            if not now["plugged"] or now["faults"]:
                wrong.append(f"still ill: plugged {now['plugged']}, {now['faults']}")
            if not faulty:
                wrong += [
                    f"{key}: {now[key] - self.counters[key]} at the emulated wire"
                    for key in WELL
                    if now[key] > self.counters[key]
                ]
        return wrong


@pytest.fixture
def layer(bare: Rig, request: pytest.FixtureRequest) -> Any:
    """The rig behind its safety layer, open; its health is asserted afterwards, then it is closed."""
    safe = SafetyLayer(bare)
    safe.open()
    health = Health(bare, safe)
    try:
        health.begin()
        yield safe
        assert not (wrong := health.check(request.node.get_closest_marker("faulty") is not None)), wrong
    finally:
        with contextlib.suppress(Exception):
            safe.close()


@pytest.fixture
def active(layer: SafetyLayer) -> SafetyLayer:
    """The same, its motors on, at rest."""
    layer.activate()
    layer.home(0)
    return layer


@pytest.fixture
def protocol(rig_name: str, bare: Rig) -> str:
    """What is spoken on its wire: maestro, pca9685, dynamixel, feetech, or "" where there is none."""
    scheme = parse_name(rig_name)[0]
    return str(getattr(bare, "kind", "")) if scheme != "sim" else ""
