"""The wire: bytes take their time, another speed garbles them, a pulled cable is a dead port."""

from __future__ import annotations

import os
import termios
import tty

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetwin.hardware.emulated.faults import Fault, Faults
from facetwin.hardware.emulated.line import HalfDuplexLine, Line, resampled

BAUD = 115200


@pytest.fixture
def line(tmp_path):
    line = Line(str(tmp_path / "tty"), BAUD, Faults(0))
    line.plug()
    yield line
    line.unplug()


def driver(line: Line, speed: int = termios.B115200) -> int:
    fd = os.open(line.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    tty.setraw(fd)
    state = termios.tcgetattr(fd)
    state[4] = state[5] = speed
    termios.tcsetattr(fd, termios.TCSANOW, state)
    return fd


def received(fd: int) -> bytes:
    try:
        return os.read(fd, 4096)
    except BlockingIOError:
        return b""


@given(st.binary(max_size=60), st.sampled_from([9600, 57600, 115200, 1_000_000, 3_000_000]))
def test_same_speed_changes_nothing(data, baud):
    assert resampled(data, baud, baud) == (data, 0)
    assert resampled(data, baud, baud * 1.02) == (data, 0)  # what ten bits forgive


@given(st.binary(min_size=8, max_size=60), st.sampled_from([0.25, 0.5, 2.0, 8.7]))
@settings(max_examples=60)
def test_another_speed_ends_and_brings_other_bytes(data, factor):
    heard, errors = resampled(data, 115200, 115200 * factor)
    assert len(heard) <= len(data) * max(factor, 1) + 1
    if any(byte not in (0, 0x80, 0xFE, 0xFF) for byte in data):
        assert heard != data or errors


def test_speed_is_the_drivers(line):
    fd = driver(line, termios.B1000000)
    assert line.speed() == 1_000_000
    os.close(fd)


def test_bytes_come_no_sooner_than_the_wire_brings_them(line):
    fd = driver(line)
    os.write(fd, b"0123456789")
    assert line.listen(100.0)
    assert list(line.heard(100.0 + 5.5 * 10 / BAUD)) == [
        (b"0123456789"[k], pytest.approx(100.0 + (k + 1) * 10 / BAUD, abs=1e-9)) for k in range(5)
    ]
    os.write(fd, b"ab")  # they follow the ones before
    line.listen(100.0)
    ends = [end for _, end in line.heard(101.0)]
    assert len(ends) == 7
    assert ends[-1] == pytest.approx(100.0 + 12 * 10 / BAUD, abs=1e-9)
    os.close(fd)


def test_answers_come_in_pieces_at_the_wires_pace(line):
    fd = driver(line)
    line.listen(50.0)
    end = line.say(bytes(range(100)), 50.001)
    assert end == pytest.approx(50.001 + 100 * 10 / BAUD)
    heard, now = b"", 50.0
    while now < end + 0.001:
        line.speak(now)
        heard += received(fd)
        assert len(heard) <= max((now - 50.001) * BAUD / 10, 0) + 1e-3
        now += 0.0002
    assert heard == bytes(range(100))
    os.close(fd)


def test_next_tells_when_something_is_due(line):
    fd = driver(line)
    line.listen(10.0)
    assert line.next() == float("inf")
    line.say(b"x", 10.5)
    assert line.next() == pytest.approx(10.5 + 10 / BAUD)
    os.close(fd)


def test_a_pulled_cable_is_a_dead_port_and_comes_back_elsewhere(line):
    fd = driver(line)
    line.listen(1.0)
    line.unplug()
    assert not os.path.lexists(line.path)
    assert not line.plugged
    try:
        gone = os.read(fd, 10) == b""
    except OSError:
        gone = True
    assert gone
    with pytest.raises(OSError, match="rror"):
        os.write(fd, b"x")
    os.close(fd)
    line.plug()
    fd = driver(line)
    os.write(fd, b"hi")
    assert line.listen(2.0)
    assert bytes(b for b, _ in line.heard(3.0)) == b"hi"
    os.close(fd)


def test_nobody_at_the_other_end(line):
    fd = driver(line)
    os.close(fd)
    assert not line.listen(5.0)  # and no exception
    line.say(b"lost", 5.0)
    line.speak(5.001)
    line.settle(5.1)
    fd = driver(line)
    assert line.listen(5.2)
    assert received(fd) == b""
    os.close(fd)


def test_a_port_that_nobody_has_open_is_free(line):
    import fcntl

    fd = driver(line)
    fcntl.ioctl(fd, termios.TIOCEXCL)
    os.close(fd)
    os.close(driver(line))


def test_two_who_talk_at_once_spoil_it(tmp_path):
    line = HalfDuplexLine(str(tmp_path / "tty"), BAUD, Faults(0))
    line.plug()
    fd = driver(line)
    line.listen(1.0)
    line.say(bytes(50), 1.0)
    os.write(fd, b"interrupt")
    line.listen(1.001)
    line.speak(2.0)
    assert line.collisions == 1
    assert received(fd) == b""
    os.close(fd)
    line.unplug()


def test_faults_on_the_wire():
    faults = Faults(3)
    assert [faults.spoil(7, "robot") for _ in range(50)] == [7] * 50
    faults.add(Fault("drop", rate=0.2, where="robot"))
    kept = [faults.spoil(7, "robot") for _ in range(2000)]
    assert 0.15 < kept.count(None) / 2000 < 0.25
    assert [faults.spoil(7, "driver") for _ in range(50)] == [7] * 50
    faults.on = [Fault("corrupt", rate=1.0)]
    flipped = [faults.spoil(0, "driver") for _ in range(200)]
    assert {bin(b).count("1") for b in flipped} == {1}
    assert len(set(flipped)) == 8
