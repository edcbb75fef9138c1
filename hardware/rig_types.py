"""What a rig tells of itself: states, capabilities, pictures. `facetwin.hardware.rig` gives all of it too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetwin.twin.errors import FaceTwinError

Floats = NDArray[np.float64]

CLOSED, OPEN, ACTIVE, HELD = "closed", "open", "active", "held"


class RigFault(FaceTwinError):
    """The rig did not do what it was told: a silent servo, a partial frame, a latched fault."""


@dataclass(frozen=True)
class RigState:
    """What a rig says of itself.

    Attributes
    ----------
    time : float, s
        On the rig's clock.
    commanded, measured : float64 [shape=(n,)], commands
        The last command sent, and where the servos stand: NaN where nothing measures it, never an echo.
    load, temperature, voltage : float64 [shape=(n,)]
        Share of the stall torque, degrees C, V; NaN where unknown.
    faults : tuple of str
        What the servos complain about.
    """

    time: float
    commanded: Floats
    measured: Floats
    load: Floats
    temperature: Floats
    voltage: Floats
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class Frame:
    """A picture of the face.

    Attributes
    ----------
    image : uint8 [shape=(H, W, 3)], RGB
    mirrored : bool
        It shows a mirror: left and right are changed over.
    time : float, s
        When it was exposed, on the rig's clock.
    truth : dict or None
        Only on simulated rigs, what the twin knows: `gap_mm`, `vertices` (m), `position` (commands).
    """

    image: NDArray[np.uint8]
    mirrored: bool
    time: float
    truth: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Capabilities:
    """What a rig can do, known before it is opened.

    Attributes
    ----------
    simulated : bool
        Its clock is simulated, and nothing can break.
    measures : bool
        `RigState.measured` holds numbers.
    camera : (H, W, 3) or None
        Shape of its pictures; None: it can't look.
    truth : bool
        `Frame.truth` is filled.
    emulated : bool
        Real bytes, real time, but nobody's hardware behind them.
    obeys : bool
        It goes where it is told; a recording that is played back does not.
    """

    simulated: bool
    measures: bool
    camera: tuple[int, int, int] | None
    truth: bool = False
    emulated: bool = False
    obeys: bool = True

    @property
    def harmless(self) -> bool:
        """Nothing can break or be hurt: it may be moved without asking."""
        return self.simulated or self.emulated


@dataclass
class Status:
    """How a rig is doing.

    Attributes
    ----------
    state : "closed", "open", "active" or "held"
    reason : str
        Why it was held or released without being asked, empty otherwise; kept until `activate`.
    warnings : tuple of str
        What is not right but no reason to stop, as long as it lasts (`facetwin.hardware.safety`).
    clipped : dict
        What the last `write` had out of range: motor -> (asked, sent).
    writes, retries : int
        Commands sent, and driver calls that had to be repeated.
    """

    state: str = CLOSED
    reason: str = ""
    warnings: tuple[str, ...] = ()
    clipped: dict[str, tuple[float, float]] = field(default_factory=dict)
    writes: int = 0
    retries: int = 0
