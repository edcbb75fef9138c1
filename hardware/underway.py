"""How long a command is under way before a servo can act on it, by what is known of a rig's line.

Bytes at the line's rate, and for hobby servos half a pulse: 10 ms of waiting on average. Nothing is measured
but how many bytes a command takes. A rig table's latency is the servo's own, without this.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from facetwin.hardware.rig import ACTIVE, HELD, Rig
from facetwin.twin.calibration.pulses import Pulses

#: s between pulses of hobby servos, by the wiring's kind
PULSES = {"maestro": 0.02}
#: ports whose baud says nothing: USB all the way
USB = ("ttyACM", "usbmodem")
#: bits of a byte on the line
BITS = 10


def under_way(rig: Rig) -> float:
    """Time from `write` to when servos can act on it, s; 0 where nothing is known, as on simulated rigs.

    The rig is active: its last command is sent once more.
    """
    lines = list(_lines(rig))
    if not lines or rig.status.state not in (ACTIVE, HELD):
        return 0.0
    last = rig.read().commanded
    if not np.isfinite(last).all():
        return 0.0
    before = [[wire.sent for wire in line.wires] for line in lines]  # type: ignore[attr-defined]
    rig.write(last)
    longest = 0.0
    for line, sent in zip(lines, before):
        on_line = 0.0
        for wire, count in zip(line.wires, sent):  # type: ignore[attr-defined]
            if not any(word in wire.port for word in USB):
                on_line = max(on_line, (wire.sent - count) * BITS / wire.baud)
        longest = max(longest, on_line + PULSES.get(getattr(line, "kind", ""), 0.0) / 2)
    return longest


def pulses(rig: Rig) -> Pulses | None:
    """The pulses by which hobby servos hear of commands, and which board each motor hangs on; None without.

    Boards that pulse differently are not told apart: the slowest period counts.
    """
    boards, period, count = np.full(rig.spec.size, -1), 0.0, 0
    for line in _lines(rig):
        if own := PULSES.get(getattr(line, "kind", ""), 0.0):
            period = max(period, own)
            for name, board in zip(line.spec.names, line.wiring.bus):  # type: ignore[attr-defined]
                boards[rig.spec.index(name)] = count + int(board)
            count = int(boards.max()) + 1
    return Pulses(period, boards.tolist()) if period else None


def _lines(rig: Rig) -> Iterator[Rig]:
    """The rigs with lines of their own behind a rig."""
    if hasattr(rig, "wires") and hasattr(rig, "wiring"):
        yield rig
        return
    parts = getattr(rig, "parts", {})  # of a rig over several buses
    for one in (getattr(rig, "inner", None), *(parts.values() if isinstance(parts, dict) else ())):
        if isinstance(one, Rig):
            yield from _lines(one)
