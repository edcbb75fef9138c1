"""Which Maestros, and controllers that speak like them, answer on a port; asks, and moves nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from facetwin.hardware import maestro_codec as codec
from facetwin.hardware.maestro_link import Board, ask, greet
from facetwin.hardware.pca9685 import KNOWN_ERRORS, get_identity, identity
from facetwin.hardware.rig import RigFault
from facetwin.hardware.wire import Wire
from facetwin.twin.errors import FaceTwinError

BAUDS = (115200,)  #: a Maestro that hears another rate than its own takes it for an error


def scan(
    port: str, bauds: Sequence[int] = BAUDS, devices: Sequence[int] = (12, 13, 14, 15)
) -> list[dict[str, Any]]:
    """Boards on a port, at any of these rates.

    A Maestro asked at a wrong rate on a UART notes a serial error, and its settings may send its servos home
    then: so one rate by default. On USB every rate is right.

    Returns
    -------
    list of dict
        kind ("maestro", "pca9685"), id (device number, None: compact protocol), model, baud, crc, errors
        (names, cleared by asking), firmware (of a PCA9685 controller); or kind and note.
    """
    for baud in bauds:
        wire = Wire(port, baud=baud)
        wire.open()
        try:
            out = _scan(wire, devices)
        except OSError:
            out = []
        finally:
            wire.close()
        if out:
            return out
    return []


def _scan(wire: Wire, devices: Sequence[int]) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for device in (*devices, None):
        if device is None and out:
            break
        board = Board(wire, device, False, np.zeros(0, dtype=np.intp), [], known=KNOWN_ERRORS)
        try:
            found = greet(board, device)
        except FaceTwinError as error:  # an echo, or garbage: no other number will do better
            return [{"kind": "", "note": str(error), "baud": wire.baud}]
        if found is None:
            continue
        crc, register = found
        out.append({
            "kind": "maestro", "id": device, "model": "Maestro", "baud": wire.baud, "crc": crc,
            "errors": [codec.ERRORS[bit][0] for bit in codec.ERRORS if register >> bit & 1],
        })  # fmt: skip
    if out:
        with contextlib.suppress(TimeoutError, RigFault):
            # to a device number that no Maestro should have: a Maestro does not even listen
            board = Board(wire, 126, out[0]["crc"], np.zeros(0, dtype=np.intp), [])
            who = identity(ask(board, get_identity(crc=board.crc), 8))
            if who is not None:
                for entry in out:
                    entry.update(
                        kind="pca9685", model="PCA9685 controller", firmware=f"{who.major}.{who.minor}"
                    )
    return out
