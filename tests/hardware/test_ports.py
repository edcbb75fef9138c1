"""What is said about ports: every message names the port, what was found and what to try next."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import termios
import tty
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facetwin.hardware import ports
from facetwin.hardware.ports import explain, find_port, holders_of, list_ports
from facetwin.hardware.wire import Wire
from facetwin.twin.errors import FaceTwinError


def info(device, vid=None, pid=None, location="1-1:1.0", serial="00123"):
    """As pyserial lists a port."""
    return SimpleNamespace(
        device=device, description="a port", vid=vid, pid=pid, serial_number=serial, location=location
    )


@pytest.fixture
def system(monkeypatch):
    """Let the system have these ports."""

    def have(*found):
        monkeypatch.setattr("serial.tools.list_ports.comports", lambda: list(found))

    have()
    return have


def opening(port, baud=115200):
    """The error of really opening it."""
    with pytest.raises(FaceTwinError) as caught:
        Wire(port, baud=baud).open()
    text = str(caught.value)
    assert "\n" not in text
    assert port in text
    assert "next: " in text
    return text


def test_known_boards(system):
    system(
        info("/dev/ttyACM0", 0x1FFB, 0x008C), info("/dev/ttyACM1", 0x1FFB, 0x008C, "1-1:1.2"),
        info("/dev/ttyUSB0", 0x0403, 0x6014), info("/dev/ttyUSB1", 0x1A86, 0x7523),
        info("/dev/ttyUSB2", 0x10C4, 0xEA60), info("/dev/ttyACM2", 0x2341, 0x0043),
        info("/dev/ttyACM3", 0x2F5D, 0x2202), info("/dev/ttyACM4", 0xDEAD, 0xBEEF), info("/dev/ttyAMA0"),
    )  # fmt: skip
    found = {p.device: p for p in list_ports()}
    assert found["/dev/ttyACM0"].rigs == ("maestro",)
    assert "24 channels, its command port" in found["/dev/ttyACM0"].what
    assert found["/dev/ttyACM1"].rigs == ()
    assert "command port" in found["/dev/ttyACM1"].hint
    assert found["/dev/ttyUSB0"].rigs == ("dynamixel",)
    assert "feetech" in found["/dev/ttyUSB1"].rigs
    assert "feetech" in found["/dev/ttyUSB2"].rigs
    assert found["/dev/ttyACM2"].rigs == ("pca9685",)
    assert found["/dev/ttyACM3"].rigs == ("dynamixel",)
    assert found["/dev/ttyACM4"].what
    assert found["/dev/ttyACM4"].rigs == ()
    assert "maestro" in found["/dev/ttyAMA0"].rigs
    assert list_ports()[-1].device == "/dev/ttyAMA0"  # USB first
    for port in found.values():
        assert port.to_dict()["device"] == port.device


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_any_ids(vid, pid):
    port = ports._port(info("/dev/ttyUSB0", vid, pid), {})
    assert port.what
    assert f"{vid:04x}:{pid:04x}" in str(port)


def test_no_such_port(system):
    assert "no serial port at all" in opening("/dev/ttyACM0")
    system(info("/dev/ttyACM1", 0x1FFB, 0x008A), info("/dev/ttyS0"))
    assert "did you mean /dev/ttyACM1?" in opening("/dev/ttyACM0")
    assert "there are /dev/ttyACM1" in opening("/dev/something/else")


def test_a_link_to_nowhere(system, tmp_path):
    link = tmp_path / "face"
    link.symlink_to(tmp_path / "gone")
    assert "the board is unplugged" in opening(str(link))


@pytest.mark.parametrize(
    ("path", "kind"), [("/", "a folder"), (__file__, "a file"), ("/dev/null", "another kind")]
)
def test_no_serial_port(system, path, kind):
    text = opening(path)
    assert "not a serial port" in text
    assert kind in text


def test_no_permission(system, tmp_path, monkeypatch):
    text = str(explain(PermissionError(errno.EACCES, "denied"), "/dev/null", 9600))
    assert "no permission" in text
    assert "chmod" in text  # /dev/null belongs to root: no group to join
    group = SimpleNamespace(gr_name="dialout")
    monkeypatch.setattr("grp.getgrgid", lambda number: group)
    text = str(explain(PermissionError(errno.EACCES, "denied"), "/dev/null", 9600))
    assert "belongs to group dialout" in text
    assert "sudo usermod -aG dialout $USER, then log out and in again" in text
    group.gr_name = "uucp"  # its name on Arch
    assert "usermod -aG uucp" in str(explain(PermissionError(errno.EACCES, "denied"), "/dev/null", 9600))


def test_no_permission_really(system):
    """Opened by somebody who is not root."""
    master, slave = os.openpty()
    port = os.ttyname(slave)
    os.chmod(port, 0)
    list_ports()  # imported while everything can be read
    back, front = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            os.write(front, opening(port).encode())
        finally:
            os._exit(0)
    os.close(front)
    text = b"".join(iter(lambda: os.read(back, 4096), b"")).decode()
    os.waitpid(child, 0)
    for fd in (back, master, slave):
        os.close(fd)
    assert "no permission to open this port" in text


def test_busy_names_who_holds_it(system):
    master, slave = os.openpty()
    tty.setraw(slave)
    port = os.ttyname(slave)
    hold = f"s = serial.Serial({port!r}, exclusive=True)"
    code = f"import serial, sys; {hold}; print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"held\n"
        os.close(slave)
        assert holders_of(port) == [(other.pid, "python")] or holders_of(port)[0][0] == other.pid
        text = opening(port)
        assert "busy" in text
        assert f"pid {other.pid}" in text
        other.stdin.close()
    os.close(master)


def test_busy_with_nobody_to_name(system):
    text = str(explain(OSError(errno.EBUSY, "busy"), "/dev/null", 9600))
    assert "busy" in text
    assert "next: " in text


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.EIO, "Input/output error"), "vanished"),
        (OSError(errno.ENXIO, "No such device or address"), "vanished"),
        (OSError(errno.ENODEV, "No such device"), "vanished"),
        (ValueError("Failed to set custom baud rate (12345)"), "baud 12345"),
        (termios.error(errno.EINVAL, "Invalid argument"), "baud 12345"),
        (termios.error(errno.ENOTTY, "Inappropriate ioctl"), "not a serial port"),
        (RuntimeError("odd\nthing"), "odd thing"),
        (FaceTwinError("known already"), "known already"),
    ],
)
def test_other_reasons(system, error, says):
    text = str(explain(error, "/dev/null", 12345))
    assert says in text
    assert "\n" not in text


@given(
    st.sampled_from([OSError, ValueError, TimeoutError, PermissionError]),
    st.integers(1, 133),
    st.text(max_size=60),
    st.sampled_from(["/dev/null", "/", "/nowhere", "COM7", "", "\n"]),
)
def test_every_error_becomes_one_line(kind, number, text, port):
    error = kind(text) if kind is ValueError else kind(number, text)
    said = explain(error, port, 9600)
    assert isinstance(said, FaceTwinError)
    assert "\n" not in str(said)
    assert "next: " in str(said)


def test_find_by_link(system, tmp_path):
    real = tmp_path / "ttyACM0"
    real.touch()
    link = tmp_path / "by-id"
    link.symlink_to(real)
    system(info(str(real), 0x1FFB, 0x008A))
    assert find_port(str(link)).device == str(real)
    assert find_port("/dev/other") is None
