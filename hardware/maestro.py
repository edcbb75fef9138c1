"""The `maestro:` rig: hobby servos on one or several Pololu Maestros.

``maestro:/dev/ttyACM0`` is one board on USB; ``maestro:/dev/ttyACM0,/dev/ttyACM2`` two of them;
``maestro:/dev/ttyAMA0?baud=115200&devices=12,13&crc=true`` two on one serial line. The rig table's buses, in
order, are the boards. Hobby servos don't tell where they stand: `measured` is NaN, always. How to set the
boards up is in docs/maestro.md; bytes are in `facetwin.hardware.maestro_codec`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from facetwin.hardware import maestro_codec as codec
from facetwin.hardware.maestro_link import Board, Packet, ask, count_channels, meet
from facetwin.hardware.rig import ACTIVE, HELD, OPEN, Floats, RigFault, RigState
from facetwin.hardware.serial_rig import SerialRig
from facetwin.hardware.wiring import Ints
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.spec import RigSpec

if TYPE_CHECKING:
    from facetwin.hardware.eye import Eye

_PERIOD = 0.02  # s, between pulses, and between commands at least
_OFF_BY = 40  # 0.25 us: pulses further than this from their target are somewhere else
_CHUNK = 6  # questions sent at once: a Maestro's buffer is short
_NO_PULSES = "no pulses: it was reset, or an error sent it home; check the supply"


@dataclass(frozen=True)
class _Look:
    """A question for a pulse that went out with a write: what it should be told."""

    board: Board
    place: int
    motor: int
    wanted: int
    settled: bool


class MaestroRig(SerialRig):
    """A face on Pololu Maestros.

    Parameters
    ----------
    port : str
        One port for all boards, or one per board, separated by commas.
    table : RigSpec, name or path
        Its buses, in order, are the boards; its channels the boards' channels.
    baud : int
        Of a UART; USB does not care.
    devices : int, "12,13" or sequence of int, optional
        Device numbers, one per board. Default: 12 and up for boards on one port; a board alone on its port
        is found whatever its number.
    crc : bool
        The boards have "Enable CRC" on: a frame that was damaged is not obeyed.
    headroom : float
        The boards' own limits of speed and acceleration are the table's times this, as a second line of
        defence behind the safety layer; 0: none. Below about 2 they hold back motion that is allowed.
    camera, wiring, timeout
        See `SerialRig`.
    """

    kind = "maestro"
    most_ports = 8
    maker = "Maestro"
    scripts = True  #: boards may have a script of their own
    patience = 0.0  #: s that a board may need to start after its port was opened

    def __init__(
        self,
        port: str,
        *,
        table: RigSpec | str | Path = "face26",
        baud: int = 115200,
        devices: int | str | Sequence[int] | None = None,
        crc: bool = False,
        headroom: float = 2.0,
        camera: str | Eye | None = None,
        wiring: Mapping[str, Mapping[str, float]] | None = None,
        timeout: float = 0.05,
    ) -> None:
        super().__init__(port, table=table, baud=baud, camera=camera, wiring=wiring, timeout=timeout)
        if not isinstance(crc, bool):
            raise UsageError("bad setting", where=f"{port}: crc", found=crc, expected="true or false")
        if isinstance(headroom, (bool, str)) or not (headroom == 0 or 1 <= headroom <= 100):
            raise UsageError(
                "bad setting", where=f"{port}: headroom", found=headroom, expected="1 to 100, or 0"
            )
        self.crc, self.headroom = crc, float(headroom)
        self.boards = self._boards(devices)
        self._packets: list[Packet] = []
        self._looks: list[Packet] = []
        self._pack()
        self._pending: dict[int, list[_Look]] = {}  # wire -> pulses asked for with the last write
        self._faults: dict[str, None] = {}  # seen in writing, told by the next read
        self._doubts: dict[int, int] = {}  # board -> place of a channel to look at again
        n = self.spec.size
        self._units: Ints = np.zeros(n, dtype=np.int64)  # as sent last; 0: no pulses
        self._since = np.full(n, -math.inf)  # when that changed
        speed = np.array([m.max_speed for m in self.spec.motors])
        slow = np.abs(self.spec.span) / speed + speed / [m.max_acceleration for m in self.spec.motors]
        self._settle = 0.3 + 2 * slow / max(1.0, self.headroom)  # s, until pulses must have arrived

    def _boards(self, devices: int | str | Sequence[int] | None) -> list[Board]:
        w = self.wiring
        buses = sorted({int(b) for b in w.bus})
        if len(self.wires) not in (1, len(buses)):
            raise UsageError("wrong ports", where=self.port, found=f"{len(self.wires)} ports",
                             expected=f"1, or one for each of {len(buses)} boards")  # fmt: skip
        shared = len(buses) > len(self.wires)
        numbers = _numbers(devices, self.port)
        if numbers is None:
            numbers = [codec.DEVICE + k if shared else None for k in range(len(buses))]
        if len(numbers) != len(buses) or (shared and len(set(numbers)) < len(numbers)):
            expected = f"{len(buses)}, one per board" + (", all different" if shared else "")
            raise UsageError("wrong device numbers", where=self.port, found=devices, expected=expected)
        out = []
        for k, bus in enumerate(buses):
            mine = np.flatnonzero(w.bus == bus)
            mine = mine[np.argsort(w.channel[mine])]
            channels = [int(c) for c in w.channel[mine]]
            wire = self.wires[k if len(self.wires) > 1 else 0]
            out.append(Board(wire, numbers[k], self.crc, mine, channels, self._batches(channels), self.maker))
        return out

    def _batches(self, channels: list[int]) -> bool:
        """Whether the board can take many targets in one command: the Micro, with 6 channels, cannot."""
        return max(channels) >= codec.MICRO

    def _pack(self) -> None:
        boards = [[b for b in self.boards if b.wire is w] for w in self.wires]
        self._packets = [Packet(w, mine) for w, mine in zip(self.wires, boards, strict=True)]
        self._looks = [Packet(w, mine, looks=True) for w, mine in zip(self.wires, boards, strict=True)]

    def moving(self) -> bool:
        """Whether any pulse is still on its way to its target, held back by the boards' limits."""
        with self._lock:
            self._need("moving()", OPEN, ACTIVE, HELD)
            for k in range(len(self.wires)):
                self._collect(k)
            if all(board.batches for board in self.boards):
                question = [codec.get_moving_state(device=b.device, crc=b.crc) for b in self.boards]
                return any(ask(b, q, 1) != b"\0" for b, q in zip(self.boards, question, strict=True))
            return bool((self._pulses() != self._units).any())  # a Micro may answer too early

    # --- hooks ---------------------------------------------------------------------------------------

    def _meet(self) -> None:
        self._pending = {}
        for board in self.boards:
            meet(board, self.patience)
            most = max(board.channels)
            try:
                ask(board, codec.get_position(most, device=board.device, crc=board.crc), 2)
            except TimeoutError:
                have = count_channels(board)
                if have is None:
                    raise FaceTwinError("it fell silent", where=board.name, hint="check power") from None
                raise FaceTwinError(
                    "fewer channels than the rig table says", where=board.name, found=have or "none",
                    expected=f"channel {most} for {self.spec.names[board.motors[-1]]}",
                    hint="another table, or another order of ports or devices",
                ) from None  # fmt: skip
            self._register(board)  # what happened before does not matter
            if (
                self.scripts
                and ask(board, codec.get_script_status(device=board.device, crc=board.crc), 1) == b"\0"
            ):
                raise FaceTwinError(
                    "a script runs on this board and would move servos too", where=board.name,
                    found="its own script", expected="none",
                    hint="in the Maestro Control Center stop it, and untick 'Run script on startup'",
                )  # fmt: skip
        self._pack()  # `meet` may have found that a board is alone

    def _activate(self, present: Floats) -> None:
        units = self.wiring.units(present)
        self._faults, self._doubts = {}, {}
        with self._noticing():
            self._forget()
            for board in self.boards:
                self._send_limits(board)
            self._check()
            self._send(units)
            self._check()
        self._units, self._since = units, np.full(len(units), self.clock.now())

    def _write(self, command: Floats) -> Floats | None:
        units = self.wiring.units(command)
        with self._noticing():
            for k, packet in enumerate(self._looks):
                if packet.wire.owed:  # an answer is missing: make sure that the boards are there
                    for board in packet.boards:
                        self._faults.update(dict.fromkeys(self._look(board)))
                self._collect(k)
            self._send_looking(units)
        moved = units != self._units
        self._units = units
        self._since[moved] = self.clock.now()
        return None

    def _hold(self) -> None:
        if np.isfinite(self._commanded).all():  # without questions: it must work when nobody answers
            with self._noticing():
                self._send(self.wiring.units(self._commanded))

    def _read(self) -> RigState:
        self._mend()
        with self._noticing():
            faults: list[str] = []
            if self.status.state == OPEN:
                faults += self._check()
                pulses = self._steady()
                told = np.where(pulses > 0, self.wiring.commands(pulses), self._commanded)
            else:
                told = self._commanded.copy()
                faults += self._watch()
        unknown = np.full(self.spec.size, np.nan)
        self._faults = {}
        return RigState(
            self.clock.now(), told, unknown, unknown.copy(), unknown.copy(), unknown.copy(), tuple(faults)
        )

    def _release(self) -> None:
        off = np.zeros(self.spec.size, dtype=np.int64)
        with self._noticing():
            self._forget()
            self._send(off)
            self._units = off
            self._check()  # a frame that was lost is sent again: the base class repeats this

    # --- inside --------------------------------------------------------------------------------------

    def _send(self, units: Ints) -> None:
        for packet in self._packets:
            packet.wire.write(packet.fill(units))

    def _send_looking(self, units: Ints) -> None:
        """Targets, and before them a question for the pulse of one channel of each board, the next each time.

        A board that was reset since the last write has no pulses; after this one nobody could tell.
        """
        now = self.clock.now()
        for k, packet in enumerate(self._looks):
            looks = []
            for board in packet.boards:
                place = board.turn % len(board.channels)
                board.turn += 1
                motor = int(board.motors[place])
                settled = now - self._since[motor] > self._settle[motor]
                looks.append(_Look(board, place, motor, int(self._units[motor]), settled))
            self._pending[k] = looks
            packet.wire.write(packet.fill(units, [look.board.channels[look.place] for look in looks]))

    def _collect(self, k: int) -> None:
        """Take the answers to the questions of the last write on a wire; raises `TimeoutError` without."""
        looks = self._pending.pop(k, [])
        if not looks:
            return
        wire = self.wires[k]
        answer = wire.read(2 * len(looks))
        if len(answer) < 2 * len(looks):
            wire.owed += 2 * len(looks) - len(answer)
            raise TimeoutError(
                f"no whole answer from {looks[0].board.name}: {len(answer)} of {2 * len(looks)} bytes"
            )
        for i, look in enumerate(looks):
            pulse = codec.number(answer[2 * i : 2 * i + 2])
            if look.wanted and not pulse:
                self._faults[f"{self._where(look.board, look.place)}: {_NO_PULSES}"] = None
            elif abs(pulse - look.wanted) > _OFF_BY and look.settled:
                self._doubts[self.boards.index(look.board)] = look.place

    def _forget(self) -> None:
        """Wait for no answers to questions of the past; they may still come."""
        for k, looks in self._pending.items():
            self.wires[k].owed += 2 * len(looks)
        self._pending = {}

    def _watch(self) -> list[str]:
        """What is wrong while the motors are on: errors, and pulses that are not as they were set."""
        for k, wire in enumerate(self.wires):
            asked = bool(self._pending.get(k))
            self._collect(k)
            for j, board in enumerate(self.boards):
                if board.wire is not wire:
                    continue
                place = self._doubts.pop(j, None)
                if place is not None or not asked:
                    found = self._look(board, place)
                else:
                    found = self._complaints(board, self._register(board))
                self._faults.update(dict.fromkeys(found))
        return list(self._faults)

    def _register(self, board: Board) -> int:
        """The error register, which reading clears."""
        answer = ask(board, codec.get_errors(device=board.device, crc=board.crc), 2)
        return codec.errors(answer, board.name, board.known)

    def _complaints(self, board: Board, register: int) -> list[str]:
        """Lost bytes raise `RigFault` (the base class asks again), everything else is a fault."""
        if register & codec.LINE_ERRORS:
            raise RigFault("; ".join(codec.named(register)), where=board.name)
        return [f"{board.name}: {text}" for text in codec.named(register)]

    def _check(self) -> list[str]:
        """Ask every board for errors."""
        return [f for board in self.boards for f in self._complaints(board, self._register(board))]

    def _pulses(self) -> Ints:
        """What every channel is given, 0.25 us; 0: nothing."""
        out = np.zeros(self.spec.size, dtype=np.int64)
        for board in self.boards:
            for k in range(0, len(board.channels), _CHUNK):
                some = board.channels[k : k + _CHUNK]
                frames = (codec.get_position(c, device=board.device, crc=board.crc) for c in some)
                answer = ask(board, b"".join(frames), 2 * len(some))
                for i in range(len(some)):
                    out[board.motors[k + i]] = codec.position(answer[2 * i : 2 * i + 2], board.name)
        return out

    def _steady(self) -> Ints:
        """Pulses that two rounds of answers agree on: nothing protects them, and activation takes them up."""
        end, before = self.clock.now() + 1.0, self._pulses()
        while True:
            pulses = self._pulses()
            if ((pulses > 0) == (before > 0)).all() and (np.abs(pulses - before) <= _OFF_BY).all():
                return pulses
            if self.clock.now() > end:
                raise RigFault("pulses that differ each time they are asked for", where=self.port,
                               hint="wait until nothing moves; check the cable")  # fmt: skip
            before = pulses

    def _look(self, board: Board, place: int | None = None) -> list[str]:
        """Errors, and the pulse of one channel (its place, or the next each time); what is wrong."""
        if place is None:
            place = board.turn % len(board.channels)
            board.turn += 1
        i = place
        motor = int(board.motors[i])
        question = codec.get_errors(device=board.device, crc=board.crc)
        question += codec.get_position(board.channels[i], device=board.device, crc=board.crc)
        answer = ask(board, question, 4)
        faults = self._complaints(board, codec.errors(answer[:2], board.name, board.known))
        pulse = codec.position(answer[2:], board.name)
        if what := self._wrong_pulse(motor, pulse):
            # answers have no checksum: what one flipped bit says does not stop the face
            single = codec.get_position(board.channels[i], device=board.device, crc=board.crc)
            if what := self._wrong_pulse(motor, codec.position(ask(board, single, 2), board.name)):
                faults.append(f"{self._where(board, i)}: {what}")
        return faults

    def _where(self, board: Board, place: int) -> str:
        return f"{self.spec.names[board.motors[place]]} ({board.name}, channel {board.channels[place]})"

    def _wrong_pulse(self, motor: int, pulse: int) -> str:
        """What is wrong with the pulse (0.25 us) that a motor gets, or nothing."""
        wanted = int(self._units[motor])
        if wanted and not pulse:
            return _NO_PULSES
        if abs(pulse - wanted) > _OFF_BY and self.clock.now() - self._since[motor] > self._settle[motor]:
            return (
                f"pulses of {pulse / 4:g} us, {wanted / 4:g} us were set; widen the channel's min and max in "
                "the Maestro Control Center"
            )
        return ""

    def _send_limits(self, board: Board) -> None:
        """Limits of speed (0.25 us per 10 ms) and acceleration (0.25 us per 10 ms per 80 ms), rounded up.

        Units as with the boards' default period of 20 ms (user's guide, section 4.b); with a shorter one
        they allow more. An acceleration beyond 255 units, the most there is, becomes no limit.
        """
        for i, channel in zip(board.motors, board.channels, strict=True):
            motor, per_rad = self.spec.motors[i], abs(self.wiring.per_rad[i]) * self.headroom
            # each target is approached as if it were the last one: to keep up with a stream of them, a
            # servo must be able to stop from full speed within two periods
            brake = max(motor.max_acceleration, motor.max_speed / (2 * _PERIOD)) if self.headroom else 0.0
            speed = min(math.ceil(motor.max_speed * per_rad * 0.01), codec.MOST)
            acceleration = math.ceil(brake * per_rad * 0.01 * 0.08)
            board.wire.write(
                codec.set_speed(channel, speed, device=board.device, crc=board.crc)
                + codec.set_acceleration(
                    channel, acceleration if acceleration <= 255 else 0, device=board.device, crc=board.crc
                )
            )


def _numbers(devices: int | str | Sequence[int] | None, where: str) -> list[int | None] | None:
    if devices is None:
        return None
    asked: Iterable[object] = (
        devices.split(",") if isinstance(devices, str) else [devices] if isinstance(devices, int) else devices
    )
    out: list[int | None] = []
    for item in asked:
        try:
            value = int(str(item))
        except ValueError:
            value = -1
        if isinstance(item, bool) or not 0 <= value <= 127:
            raise UsageError("bad device number", where=where, found=item, expected="0 to 127")
        out.append(value)
    return out
