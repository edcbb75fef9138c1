"""Serial ports: which there are, what may hang on them, and why one cannot be used.

Every message about a port comes from `explain`, so that each says what was found and what to try next.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import stat
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from facetwin.twin.errors import FaceTwinError

_MAESTRO = "set its serial mode to USB Dual Port or USB Chained; the command port is the first of its two"
_USB_SERIAL = "a bus adapter (Feetech, Dynamixel) or a microcontroller"

#: USB (vendor, product or None for any) -> (what it is, kinds of rig it may carry, what to do next).
#: Pololu's ids are those of its Linux udev rules, the others those of the makers' drivers.
KNOWN: dict[tuple[int, int | None], tuple[str, tuple[str, ...], str]] = {
    (0x1FFB, 0x0089): ("Pololu Micro Maestro, 6 channels", ("maestro",), _MAESTRO),
    (0x1FFB, 0x008A): ("Pololu Mini Maestro, 12 channels", ("maestro",), _MAESTRO),
    (0x1FFB, 0x008B): ("Pololu Mini Maestro, 18 channels", ("maestro",), _MAESTRO),
    (0x1FFB, 0x008C): ("Pololu Mini Maestro, 24 channels", ("maestro",), _MAESTRO),
    (0x1FFB, None): ("a Pololu board", ("maestro",), "only Maestros are driven here"),
    (0x0403, 0x6014): ("FTDI FT232H, as in ROBOTIS U2D2", ("dynamixel",), "power the servos apart"),
    (0x2F5D, 0x2202): ("ROBOTIS OpenRB-150", ("dynamixel",), "load its usb_to_dynamixel sketch"),
    (0x2F5D, None): ("a ROBOTIS board", ("dynamixel",), "load its usb_to_dynamixel sketch"),
    (0x1A86, 0x7523): ("WCH CH340, as in Feetech boards, Arduino clones", ("feetech", "pca9685"), "probe it"),
    (0x1A86, 0x55D3): ("WCH CH343, as in Waveshare servo adapters", ("feetech", "dynamixel"), "probe it"),
    (0x1A86, None): ("a WCH USB-serial adapter", ("feetech", "pca9685"), "probe it"),
    (0x10C4, 0xEA60): ("Silicon Labs CP210x, as in Feetech URT boards", ("feetech", "pca9685"), "probe it"),
    (0x0403, None): ("an FTDI USB-serial adapter", ("dynamixel", "feetech", "maestro"), "probe it"),
    (0x067B, None): ("a Prolific USB-serial adapter", ("maestro", "feetech"), "probe it"),
    (0x2341, None): ("an Arduino", ("pca9685",), "load hardware/firmware/pca9685"),
    (0x2A03, None): ("an Arduino", ("pca9685",), "load hardware/firmware/pca9685"),
    (0x1B4F, None): ("a SparkFun board", ("pca9685",), "load hardware/firmware/pca9685"),
    (0x16C0, 0x0483): ("a Teensy", ("pca9685",), "load hardware/firmware/pca9685"),
    (0x2E8A, None): ("a Raspberry Pi RP2040 board", ("pca9685",), "load hardware/firmware/pca9685"),
    (0x303A, None): ("an Espressif board", ("pca9685",), "load hardware/firmware/pca9685"),
}  # fmt: skip


@dataclass(frozen=True)
class Port:
    """A serial port of this machine.

    Attributes
    ----------
    device : str
        Its name, e.g. ``/dev/ttyACM0`` or ``COM3``; `link`: a name that stays (``/dev/serial/by-id/...``).
    description : str
        What the operating system calls it.
    vid, pid : int or None
        USB vendor and product; `serial`: its serial number, or empty.
    what : str
        What it is as far as the ids tell; `rigs`: kinds of rig that may hang on it; `hint`: what to do next.
    """

    device: str
    description: str
    vid: int | None
    pid: int | None
    serial: str
    what: str
    rigs: tuple[str, ...]
    hint: str
    link: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        ids = f" ({self.vid:04x}:{self.pid:04x})" if self.vid is not None and self.pid is not None else ""
        return f"{self.device}{ids} {self.what or self.description}"


def list_ports() -> list[Port]:
    """Serial ports of this machine, USB ones first; opens none."""
    from serial.tools import list_ports as system

    links = _links()
    found = [_port(info, links) for info in system.comports()]
    return sorted(found, key=lambda p: (p.vid is None, p.device))


def find_port(device: str) -> Port | None:
    """The port of this name, or of the device behind a link; None if the system does not list it."""
    real = os.path.realpath(device)
    return next((p for p in list_ports() if p.device in (device, real)), None)


def explain(error: BaseException, port: str, baud: int) -> FaceTwinError:
    """Why a port could not be opened or used, in one line with the next step.

    Parameters
    ----------
    error : OSError, ValueError or termios.error
        What opening or using it raised (pyserial's are `OSError`).
    port : str
    baud : int
        As asked for.
    """
    if isinstance(error, FaceTwinError):
        return error
    number = getattr(error, "errno", None)
    if number is None and error.args and isinstance(error.args[0], int):
        number = error.args[0]  # termios.error
    text = " ".join(str(error).split())
    if number == errno.ENOENT or (not _exists(port) and number not in (errno.EACCES, errno.EPERM)):
        return _missing(port)
    if number in (errno.EACCES, errno.EPERM) and not sys.platform.startswith("win"):
        return _forbidden(port)
    if number in (errno.EBUSY, errno.EAGAIN) or "exclusively lock" in text or number == errno.EACCES:
        return _busy(port)
    alien = "Inappropriate ioctl" in text  # pyserial keeps the number to itself
    if number in (errno.ENOTTY, errno.EISDIR) or alien or not _is_device(port):
        return FaceTwinError("not a serial port", where=port, found=_kind(port),
                             expected="a serial device", hint=_others())  # fmt: skip
    if isinstance(error, ValueError) or number == errno.EINVAL or "configure port" in text:
        return FaceTwinError("this port cannot be set up so", where=port, found=f"baud {baud}: {text}",
                             expected="a rate that the adapter knows",
                             hint="try baud=115200, or another adapter")  # fmt: skip
    if number in (errno.ENXIO, errno.ENODEV, errno.EIO, errno.EBADF):
        return FaceTwinError("the port has vanished", where=port, found=text,
                             hint="check cable and power, then open the rig again")  # fmt: skip
    return FaceTwinError("the port cannot be used", where=port, found=text or type(error).__name__,
                         hint="facetwin rig scan")  # fmt: skip


def no_answer(port: str, baud: int, who: str, checks: str) -> FaceTwinError:
    """Silence where a board should have answered, with what hangs on the port if its ids tell.

    Parameters
    ----------
    port, baud
        As opened.
    who : str
        Who was asked, e.g. "Maestro, device 12".
    checks : str
        What to look at next, the board's own matters first.
    """
    found: str = f"silence at {baud} baud"
    with contextlib.suppress(Exception):
        here = find_port(port)
        if here is not None and here.what:
            found += f" (the port is {here.what})"
    return FaceTwinError(f"no answer from {who}", where=port, found=found, hint=checks)


# --- inside ------------------------------------------------------------------------------------------


def _port(info: Any, links: dict[str, str]) -> Port:
    what, rigs, hint = "", (), ""  # type: str, tuple[str, ...], str
    if info.vid is not None:
        what, rigs, hint = KNOWN.get(
            (info.vid, info.pid), KNOWN.get((info.vid, None), (_USB_SERIAL, (), "probe it"))
        )
        if info.vid == 0x1FFB and info.pid in (0x0089, 0x008A, 0x008B, 0x008C):
            # USB interface 0 is the command port, 2 the TTL port (user's guide, section 5.a)
            if str(info.location or "").endswith(".2"):
                what, rigs = what + ", its TTL port", ()
                hint = "use its other port, the command port"
            else:
                what += ", its command port"
    elif os.path.basename(info.device).startswith(("ttyAMA", "ttyS", "serial", "ttyTHS")):
        what, rigs, hint = "a UART of this machine", ("maestro", "pca9685"), "mind its level: 3.3 V or 5 V"
    return Port(
        info.device, info.description or "", info.vid, info.pid, info.serial_number or "", what, rigs, hint,
        links.get(os.path.realpath(info.device), ""),
    )  # fmt: skip


def _links() -> dict[str, str]:
    folder = Path("/dev/serial/by-id")
    try:
        return {os.path.realpath(link): str(link) for link in sorted(folder.iterdir())}
    except OSError:
        return {}


def _exists(port: str) -> bool:
    return os.path.lexists(port) if os.sep == "/" else True


def _is_device(port: str) -> bool:
    try:
        return stat.S_ISCHR(os.stat(port).st_mode)
    except OSError:
        return os.sep != "/"


def _kind(port: str) -> str:
    try:
        mode = os.stat(port).st_mode
    except OSError:
        return "a broken link"
    if stat.S_ISDIR(mode):
        return "a folder"
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        return "another kind of device"
    return "a file"


def _others() -> str:
    ports = list_ports()
    if not ports:
        return "there is no serial port at all: plug the board in, use a cable that carries data, check power"
    return "there are " + ", ".join(str(p) for p in ports[:4])


def _missing(port: str) -> FaceTwinError:
    names = [p.device for p in list_ports()] + [p.link for p in list_ports() if p.link]
    close = difflib.get_close_matches(port, names, 1, 0.75)
    hint = f"did you mean {close[0]}?" if close else _others()
    if os.path.islink(port):
        hint = f"the link leads nowhere: the board is unplugged; {hint}"
    return FaceTwinError("no such port", where=port, found="nothing of that name", hint=hint)


def _forbidden(port: str) -> FaceTwinError:
    group, mode = "dialout", ""
    with contextlib.suppress(Exception):
        import grp

        status = os.stat(port)
        group, mode = grp.getgrgid(status.st_gid).gr_name, stat.filemode(status.st_mode)
    if group == "root":
        hint = f"sudo chmod a+rw {port} for now; a udev rule (GROUP=dialout) for good"
    else:
        hint = f"sudo usermod -aG {group} $USER, then log out and in again"
    return FaceTwinError("no permission to open this port", where=port,
                         found=f"it belongs to group {group}" + (f", mode {mode}" if mode else ""),
                         expected="read and write", hint=hint)  # fmt: skip


def _busy(port: str) -> FaceTwinError:
    holders = holders_of(port)
    found = "held by " + ", ".join(f"{name} (pid {pid})" for pid, name in holders) if holders else "held"
    who = f"stop {holders[0][1]}" if holders else "close what uses it (another facetwin, a serial monitor)"
    if any("ModemManager" in name for _, name in holders):
        who = "sudo systemctl stop ModemManager"
    elif holders and holders[0][0] == os.getpid():
        who = "this program has it open already: close that rig first"
    return FaceTwinError("the port is busy", where=port, found=found, hint=who)


def holders_of(port: str) -> list[tuple[int, str]]:
    """Processes that have a port open, (pid, name) each, as far as /proc shows them."""
    real, out = os.path.realpath(port), []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(os.path.realpath(fd) == real for fd in (entry / "fd").iterdir()):
                out.append((int(entry.name), (entry / "comm").read_text().strip()))
    return sorted(out)
