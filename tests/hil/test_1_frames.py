"""Rung 1: the codec of this rig's protocol makes the frames that its maker publishes."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = [pytest.mark.hil, pytest.mark.rung(1, "codec")]


def maestro():
    from facetwin.hardware import maestro_codec as codec

    # Pololu, "Maestro Servo Controller User's Guide", section 5.e: set target, compact and with a device
    assert codec.set_target(2, 6000) == bytes((0x84, 0x02, 0x70, 0x2E))
    assert codec.set_target(2, 6000, device=12) == bytes((0xAA, 0x0C, 0x04, 0x02, 0x70, 0x2E))
    assert codec.set_speed(5, 140) == bytes((0x87, 0x05, 0x0C, 0x01))
    # section 5.d: the worked example of the CRC
    assert codec.crc7(bytes((0x83, 0x01))) == 0x17


def dynamixel():
    from facetwin.hardware import dynamixel_codec as codec

    # ROBOTIS e-Manual, "DYNAMIXEL Protocol 2.0": ping, read, sync write; status of the read
    assert codec.frame(1, codec.PING) == bytes.fromhex("FF FF FD 00 01 03 00 01 19 4E")
    read = codec.frame(1, codec.READ, bytes.fromhex("84 00 04 00"))
    assert read == bytes.fromhex("FF FF FD 00 01 07 00 02 84 00 04 00 1D 15")
    both = codec.SyncWrite([1, 2]).frame(np.array([150, 170]))
    assert both == bytes.fromhex("FF FF FD 00 FE 11 00 83 74 00 04 00 01 96 00 00 00 02 AA 00 00 00 82 87")
    status = bytes.fromhex("FF FF FD 00 01 08 00 55 00 A6 00 00 00 8C C0")
    (found,), _, bad = codec.find_status(status, final=True)
    assert bad == 0
    assert int.from_bytes(found.data, "little") == 166


def feetech():
    from facetwin.hardware import feetech_codec as codec

    # Feetech, "SMS/STS communication protocol manual": ping, read of the present position
    assert codec.frame(1, codec.PING) == bytes.fromhex("FF FF 01 02 01 FB")
    assert codec.frame(1, codec.READ, bytes((0x38, 0x02))) == bytes.fromhex("FF FF 01 04 02 38 02 BE")


def test_published_frames(protocol):
    makers = {"maestro": maestro, "pca9685": maestro, "dynamixel": dynamixel, "feetech": feetech}
    if protocol not in makers:
        pytest.skip("this rig has no wire")
    makers[protocol]()


def test_commands_and_units_go_round(bare):
    wiring = getattr(bare, "wiring", None)
    if wiring is None:
        pytest.skip("this rig has no wire")
    rng = np.random.default_rng(0)
    for command in rng.uniform(size=(200, bare.spec.size)):
        units = wiring.units(command)
        assert (np.abs(wiring.units(wiring.commands(units)) - units) == 0).all()
