"""Rung 2: what goes wrong on an emulated rig's wire is retried, held or released, never obeyed wrongly."""

from __future__ import annotations

import contextlib
import time

import numpy as np
import pytest

from facetwin.twin.errors import FaceTwinError

pytestmark = [
    pytest.mark.hil, pytest.mark.rung(2, "driver under faults"), pytest.mark.needs("emulated"),
    pytest.mark.faulty,
]  # fmt: skip

SPELL = 0.8  # s that a fault lasts
FAULTS = {
    "drop": {"rate": 0.01}, "corrupt": {"rate": 0.01}, "delay": {"delay": 0.03}, "silent": {"motor": "jaw"},
    "latched": {"motor": "jaw"}, "brownout": {}, "unplug": {},
}  # fmt: skip


@pytest.mark.parametrize("kind", FAULTS)
def test_fault(active, kind):
    emulator = active.inner.emulator
    strange = emulator.health()["strange"]
    emulator.fault(kind, duration=SPELL, **FAULTS[kind])
    errors = []
    end = time.monotonic() + SPELL + 0.2
    command = active.spec.rest.copy()
    while time.monotonic() < end:
        command[:] = active.spec.rest + 0.05 * np.sin(6 * time.monotonic())
        try:
            active.write(np.clip(command, 0, 1))
            active.read()
        except FaceTwinError as error:
            errors.append(error)
        time.sleep(0.02)
    emulator.clear()
    assert emulator.health()["strange"] == strange, "a servo took a goal that nobody had sent"
    if errors:  # stopped, and it says why
        assert active.status.state in ("open", "held", "active")
        assert all("\n" not in str(error) for error in errors)
        assert active.status.reason or active.inner.status.reason or active.fault
    recover(active)
    sent = active.write(active.spec.rest)
    assert np.abs(sent - active.spec.rest).max() < 0.2


def recover(layer):
    """What a person does: motors off, reset, motors on, and again if the rig still complains."""
    end = time.monotonic() + 5.0
    while True:
        try:
            if layer.fault or layer.status.state == "open":
                with contextlib.suppress(FaceTwinError):
                    layer.release()
                layer.reset()
                layer.read()  # connects anew after a pulled cable
                layer.activate()
            layer.write(layer.read().commanded)
            if not layer.fault:
                return
        except FaceTwinError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
            layer.reset()
            with contextlib.suppress(FaceTwinError):
                layer.release()
