"""Bytes of the Maestro against what Pololu publishes.

Golden frames are from the Pololu Maestro Servo Controller User's Guide unless the line says otherwise.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_maestro import long_division

from facetwin.hardware import maestro_codec as codec
from facetwin.hardware.rig import RigFault
from facetwin.twin.errors import UsageError

CHANNELS, PULSES = st.integers(0, 23), st.integers(0, 16383)


@pytest.mark.parametrize(
    ("frame", "published"),
    [
        # section 5.e, Set Target: channel 2 to 1500 us
        (codec.set_target(2, 6000), "84 02 70 2e"),
        # section 5.c, compact protocol: servo 0 to 1500 us, and the same in the Pololu protocol to device 12
        (codec.set_target(0, 6000), "84 00 70 2e"),
        (codec.set_target(0, 6000, device=12), "aa 0c 04 00 70 2e"),
        # section 5.e, Set Multiple Targets: channel 3 off, channel 4 to 1500 us
        (codec.set_targets(3, [0, 6000]), "9f 02 03 00 00 70 2e"),
        # section 5.e, Set Speed: channel 5 to 140
        (codec.set_speed(5, 140), "87 05 0c 01"),
        # section 5.e, encodings of the other commands
        (codec.set_acceleration(3, 4, device=12), "aa 0c 09 03 04 00"),
        (codec.get_position(7), "90 07"),
        (codec.get_position(7, device=13), "aa 0d 10 07"),
        (codec.get_errors(), "a1"),
        (codec.get_errors(device=12), "aa 0c 21"),
        (codec.get_moving_state(device=12), "aa 0c 13"),
        # section 5.d, the worked example of the CRC
        (codec.frame(0x83, b"\x01", crc=True), "83 01 17"),
    ],
)
def test_frames_are_the_published_ones(frame, published):
    assert frame.hex(" ") == published


# a checksum by the same polynomial, in the makers' C code: Motoron user's guide, section 11
def test_crc_is_that_of_another_published_frame():
    assert codec.crc7(bytes([0xD1, 0x01, 0x64, 0x00])) == 0x68


@given(st.binary(max_size=64))
def test_crc_is_the_long_division_of_the_guide(message):
    assert codec.crc7(message) == long_division(message) < 128


@given(st.binary(min_size=1, max_size=40), st.data())
def test_crc_sees_every_burst_of_seven_bits(message, data):
    at = data.draw(st.integers(0, 8 * len(message) - 1))
    burst = data.draw(st.integers(1, 127)) << at
    hit = int.from_bytes(message, "little") ^ burst
    hit %= 1 << 8 * len(message)
    other = hit.to_bytes(len(message), "little")
    assert other == message or codec.crc7(other) != codec.crc7(message)


@given(CHANNELS, st.lists(PULSES, min_size=1, max_size=24), st.none() | st.integers(0, 127), st.booleans())
def test_only_the_first_byte_of_a_frame_is_a_command(first, targets, device, crc):
    frame = codec.set_targets(first, targets, device=device, crc=crc)
    assert frame[0] >= 0x80
    assert all(byte < 0x80 for byte in frame[1:])
    assert len(frame) == 3 + 2 * len(targets) + 2 * (device is not None) + crc


@given(PULSES)
def test_two_bytes_hold_fourteen_bits(pulse):
    low, high = codec.two(pulse)
    assert low + 128 * high == pulse


@pytest.mark.parametrize("value", [-1, 16384, 1 << 20])
def test_what_does_not_fit_is_refused(value):
    with pytest.raises(UsageError, match="0 to 16383"):
        codec.two(value)
    with pytest.raises(UsageError, match="acceleration"):
        codec.set_acceleration(0, 256)


@given(st.integers(0, 0xFFFF))
def test_a_pulse_is_possible_or_garbage(value):
    answer = value.to_bytes(2, "little")
    if value <= codec.LONGEST_PULSE:
        assert codec.position(answer, "here") == value
    else:
        with pytest.raises(RigFault, match="garbled"):
            codec.position(answer, "here")


@given(st.integers(0, 0xFFFF))
def test_error_bits_are_named_or_garbage(register):
    answer = register.to_bytes(2, "little")
    if register < 512:
        assert codec.errors(answer, "here") == register
        assert len(codec.named(register)) == register.bit_count()
    else:
        with pytest.raises(RigFault, match="garbled"):
            codec.errors(answer, "here")


@given(st.lists(CHANNELS, unique=True, min_size=1).map(sorted), st.booleans())
def test_runs_cover_every_channel_once(channels, multiple):
    covered = []
    for first, length in codec.runs(channels, multiple=multiple):
        run = channels[first : first + length]
        assert run == list(range(run[0], run[0] + length))
        assert multiple or length == 1
        covered += run
    assert covered == channels
