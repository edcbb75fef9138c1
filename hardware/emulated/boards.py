"""Which boards stand at the end of the wire: what each kind of emulated rig is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from facetwin.hardware.emulated.bus import Bus, Horns, Log
from facetwin.hardware.emulated.faults import Faults
from facetwin.hardware.emulated.servos import Servos


def make_bus(
    setup: dict[str, Any],
    servos: Servos,
    horns: Horns,
    log: Log,
    faults: Faults,
    say: Callable[[bytes, float], float],
) -> Bus:
    """The boards that `setup` describes."""
    kind, more = setup["kind"], setup["boards"]
    parts = (servos, horns, log, faults, say)
    if kind == "maestro":
        from facetwin.hardware.emulated.maestro_board import MaestroBus

        return MaestroBus(*parts, **more)
    if kind == "pca9685":
        from facetwin.hardware.emulated.pca9685_board import Pca9685Bus

        return Pca9685Bus(*parts, **more)
    if kind == "dynamixel":
        from facetwin.hardware.emulated.dynamixel_bus import DynamixelBus

        return DynamixelBus(*parts, **more)
    from facetwin.hardware.emulated.feetech_bus import FeetechBus

    return FeetechBus(*parts, **more)
