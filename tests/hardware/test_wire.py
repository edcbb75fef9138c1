"""A serial port with deadlines: what it promises, on a pty."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import tty

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetwin.hardware import wire as module
from facetwin.hardware.wire import Wire
from facetwin.twin.errors import FaceTwinError, UsageError


@pytest.fixture
def ends():
    master, slave = os.openpty()
    tty.setraw(slave)
    yield master, slave, os.ttyname(slave)
    for fd in (master, slave):
        with contextlib.suppress(OSError):
            os.close(fd)


@pytest.fixture(params=["descriptor", "pyserial"])
def pair(ends, request, monkeypatch):
    """The far end, and a wire: by its file descriptor, and as where there is none (Windows)."""
    monkeypatch.setattr(module, "_POLL", request.param == "descriptor")
    wire = Wire(ends[2], baud=115200)
    wire.open()
    yield ends[0], wire
    wire.close()


def test_constructing_opens_nothing(ends):
    Wire("/dev/nowhere", baud=9600)
    assert not Wire(ends[2], baud=9600).is_open


def test_bytes_arrive_whole_and_are_counted(pair):
    master, wire = pair
    data = bytes(range(256)) * 8
    wire.write(data)
    got = b""
    while len(got) < len(data):
        got += os.read(master, 4096)
    assert got == data
    os.write(master, data[:1000])
    assert wire.read(1000, 1.0) == data[:1000]
    assert (wire.sent, wire.received) == (len(data), 1000)


def test_reading_ends_when_enough_is_there(pair):
    master, wire = pair
    os.write(master, b"abcdef")
    start = time.monotonic()
    assert wire.read(4, 5.0) == b"abcd"
    assert time.monotonic() - start < 1.0
    assert wire.read(4, 0.01) == b"ef"


@pytest.mark.parametrize("timeout", [0.0, 0.02, 0.1])
def test_reading_ends_when_time_is_up(pair, timeout):
    _, wire = pair
    start = time.monotonic()
    assert wire.read(1, timeout) == b""
    took = time.monotonic() - start
    assert timeout <= took < timeout + 0.2


def test_bytes_that_drip_do_not_prolong_the_wait(pair):
    master, wire = pair

    def drip():
        for _ in range(20):
            os.write(master, b"x")
            time.sleep(0.02)

    thread = threading.Thread(target=drip)
    thread.start()
    start = time.monotonic()
    got = wire.read(1000, 0.1)
    assert time.monotonic() - start < 0.3
    assert 1 <= len(got) < 20
    thread.join()


def test_discard_returns_what_waited(pair):
    master, wire = pair
    os.write(master, b"old" * 30)
    time.sleep(0.05)
    assert wire.discard() == b"old" * 30
    assert wire.discard() == b""


def test_settle_waits_for_silence(pair):
    master, wire = pair
    wire.write(b"")
    thread = threading.Thread(target=lambda: [(os.write(master, b"y"), time.sleep(0.02)) for _ in range(5)])
    thread.start()
    thread_started = wire.read(1, 1.0)
    assert thread_started + wire.settle(0.1) == b"y" * 5
    thread.join()


def test_a_babbling_port_does_not_hold_us(pair):
    master, wire = pair
    stop = threading.Event()

    def babble():
        os.set_blocking(master, False)
        while not stop.is_set():
            try:
                os.write(master, b"z" * 512)
            except BlockingIOError:
                time.sleep(0.001)

    thread = threading.Thread(target=babble)
    thread.start()
    start = time.monotonic()
    wire.discard()
    wire.settle(0.05)
    assert time.monotonic() - start < 5
    stop.set()
    thread.join()


def test_a_port_that_takes_nothing_is_given_up(ends):
    wire = Wire(ends[2], baud=10_000_000, timeout=0.05)
    wire.open()
    start = time.monotonic()
    with pytest.raises(TimeoutError, match="bytes not taken"):
        wire.write(bytes(1 << 20))  # nobody reads the far end
    assert 0.05 <= time.monotonic() - start < 3
    wire.close()


def test_a_pulled_cable_is_an_error_and_no_hang(ends):
    master, slave, port = ends
    wire = Wire(port, baud=115200)
    wire.open()
    os.close(slave)
    os.close(master)
    with pytest.raises(OSError, match="vanished") as caught:
        wire.read(1, 5.0)
    assert not isinstance(caught.value, TimeoutError)
    assert str(caught.value).count("vanished") == 1
    with pytest.raises(OSError, match="vanished"):
        wire.write(b"x")
    wire.close()
    wire.close()


def test_a_cable_pulled_while_waiting_ends_the_wait(ends):
    master, slave, port = ends
    wire = Wire(port, baud=115200)
    wire.open()
    os.close(slave)
    threading.Timer(0.1, os.close, [master]).start()
    start = time.monotonic()
    with pytest.raises(OSError, match="vanished"):
        wire.read(1, 5.0)
    assert time.monotonic() - start < 2
    wire.close()


def test_closed_and_open_again(ends):
    wire = Wire(ends[2], baud=115200)
    for call in (lambda: wire.write(b"x"), lambda: wire.read(1), wire.discard):
        with pytest.raises(OSError, match="is closed"):
            call()
    for _ in range(2):
        wire.open()
        wire.open()
        wire.write(b"x")
        assert os.read(ends[0], 10) == b"x"
        wire.close()
        wire.close()


def test_opening_throws_away_what_an_earlier_one_left(ends):
    os.write(ends[0], b"late answer")
    wire = Wire(ends[2], baud=115200)
    wire.open()
    assert wire.read(1, 0.05) == b""
    wire.close()


def test_the_port_is_ours_alone(ends):
    first, second = Wire(ends[2], baud=115200), Wire(ends[2], baud=115200)
    first.open()
    with pytest.raises(FaceTwinError, match=r"busy.*this program has it open already"):
        second.open()
    first.close()
    second.open()
    second.close()


def test_any_rate_is_set(ends):
    import array
    import fcntl

    for baud in (9600, 115200, 200_000, 1_000_000, 3_000_000):
        wire = Wire(ends[2], baud=baud)
        wire.open()
        settings = array.array("i", [0] * 64)
        fcntl.ioctl(ends[1], 0x802C542A, settings)  # TCGETS2
        assert settings[10] == baud
        wire.close()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"port": ""}, "no port named"),
        ({"port": "  "}, "rig scan"),
        ({"port": 3}, "no port named"),
        ({"baud": 300}, "baud"),
        ({"baud": 115200.5}, "baud"),
        ({"baud": True}, "baud"),
        ({"baud": None}, "baud"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": -1}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": True}, "timeout"),
        ({"timeout": "1"}, "timeout"),
    ],
)
def test_bad_settings(given, says):
    with pytest.raises(UsageError, match=says):
        Wire(**{"port": "/dev/nowhere", "baud": 9600, **given})


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.integers(1, 400))
@settings(max_examples=25, deadline=None)
def test_whatever_goes_in_comes_out(pieces, size):
    master, slave = os.openpty()
    tty.setraw(slave)
    wire = Wire(os.ttyname(slave), baud=115200)
    wire.open()
    try:
        for piece in pieces:
            os.write(master, piece)
        whole, got = b"".join(pieces), b""
        while more := wire.read(size, 0.02):
            assert len(more) <= size
            got += more
        assert got == whole
    finally:
        wire.close()
        os.close(master)
        os.close(slave)


def test_an_adapter_is_asked_to_hurry_and_may_refuse():
    from types import SimpleNamespace

    asked = []

    def hurry(on: bool) -> None:
        asked.append(on)
        raise ValueError("Failed to update ASYNC_LOW_LATENCY flag")  # what pyserial makes of a pty's answer

    wire = Wire("/dev/ttyUSB0", baud=115200)
    wire._serial = SimpleNamespace(set_low_latency_mode=hurry)
    wire._hurry()
    wire._serial = SimpleNamespace()  # not Linux
    wire._hurry()
    assert asked == [True]
