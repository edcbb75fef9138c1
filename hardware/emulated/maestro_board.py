"""Pololu Maestro servo controllers on one serial line, written from the user's guide.

Source: Pololu Maestro Servo Controller User's Guide, section 5 (serial interface): compact and Pololu
protocol, mini SSC, CRC-7 at the end of each command when it is switched on, errors 4.e (cleared when read),
speed in .25 us per 10 ms, acceleration in .25 us per 10 ms per 80 ms. Two boards share the line, told apart
by their device numbers; what is said in the compact protocol, both do, and their answers collide.
Servos stay as they are on a serial error ("ignore" in the board's channel settings). Not here: scripts,
sequences, PWM output, inputs.
"""

from __future__ import annotations

from collections.abc import Callable

from facetwin.hardware.emulated.bus import Bus, Horns, Log
from facetwin.hardware.emulated.faults import Faults
from facetwin.hardware.emulated.maestro_frames import (
    ACCELERATION,
    ERRORS,
    HOME,
    MINI_SSC,
    MOVING,
    MULTIPLE,
    OVERRUN,
    POSITION,
    PROTOCOL,
    SCRIPT,
    SET_TARGET,
    SPEED,
    Ear,
    Order,
)
from facetwin.hardware.emulated.servos import Servos

#: s from the last bit of a question to the first of its answer
THINK = 1e-4


class Board:
    """One Maestro.

    Parameters
    ----------
    device : int
        Device number, 12 from the factory.
    channels : int
    low, high : int, quarter-microseconds
        What its channel settings allow; other targets are clipped.
    """

    def __init__(self, device: int, channels: int, low: int, high: int, phase: float) -> None:
        self.device, self.channels, self.low, self.high = device, channels, low, high
        self.next_pulse = phase
        self.restart()

    def restart(self) -> None:
        """Power on: nothing is driven."""
        self.target = [0] * self.channels
        self.position = [0] * self.channels  # after the ramps; 0: no pulse
        self.sent = [0] * self.channels  # the pulse that went out last
        self.speed = [0] * self.channels
        self.acceleration = [0] * self.channels
        self.velocity = [0.0] * self.channels
        self.errors = 0
        self.busy = True  # something may change with the next pulse

    def aim(self, channel: int, target: int) -> None:
        """Set a target; 0 switches the pulse off."""
        goal = self.target[channel] = min(max(target, self.low), self.high) if target else 0
        if not (goal and self.position[channel] and (self.speed[channel] or self.acceleration[channel])):
            self.position[channel] = goal  # it is told at once, and goes out with the next pulse
        self.busy = True

    def pulse(self, period: float) -> list[int]:
        """The next pulses; returns the channels whose pulse changed."""
        changed, self.busy = [], False
        for k in range(self.channels):
            goal, at = self.target[k], self.position[k]
            if goal == at:
                self.velocity[k] = 0.0
            else:
                self.position[k] = self._ramp(k, goal, at, period)
                self.busy |= self.position[k] != goal
            if self.sent[k] != self.position[k]:
                self.sent[k] = self.position[k]
                changed.append(k)
        return changed

    def _ramp(self, k: int, goal: int, at: int, period: float) -> int:
        most = self.speed[k] / 0.01 if self.speed[k] else 1e9  # quarter-us per s
        if self.acceleration[k]:
            rise = self.acceleration[k] / 0.01 / 0.08
            brake = (2 * rise * abs(goal - at)) ** 0.5
            most = min(most, self.velocity[k] + rise * period, max(brake, rise * period))
        self.velocity[k] = most
        step = max(most * period, 1.0)
        return goal if abs(goal - at) <= step else round(at + (step if goal > at else -step))


class MaestroBus(Bus):
    """Maestros in a chain, as `Bus`.

    Parameters
    ----------
    devices : list of int
        Device number of each board.
    crc : bool
        Whether the boards want CRC-7.
    period : float, s
        Of the pulses.
    """

    supply = 6.0

    def __init__(
        self,
        servos: Servos,
        horns: Horns,
        log: Log,
        faults: Faults,
        say: Callable[[bytes, float], float],
        *,
        devices: list[int],
        channels: int = 24,
        crc: bool = True,
        period: float = 0.01,
        low: int = 1984,
        high: int = 10048,
    ) -> None:
        super().__init__(servos, horns, log, faults, say)
        self.period = period
        start = servos.time
        self.boards = [
            Board(d, channels, low, high, start + period * (0.37 + 0.29 * k) % period)
            for k, d in enumerate(devices)
        ]
        self._ear, self._tap = Ear(crc), Ear(crc)

    # --- bytes -------------------------------------------------------------------------------------

    def tap(self, byte: int, time: float) -> None:
        """See `Bus.tap`."""
        for order in self._tap.hear(byte):
            if not order.error:
                for k, board in enumerate(self.boards):
                    if self.meant(order, board):
                        self._log(time, k, self._targets(order, board))

    def _log(self, time: float, k: int, targets: list[tuple[int, int]]) -> None:
        known = [(m, t) for c, t in targets if (m := self.horns.places.get((k, c))) is not None]
        if known:
            self.log.ask(time, [m for m, _ in known], [t for _, t in known])

    def hear(self, byte: int, time: float) -> None:
        """See `Bus.hear`."""
        if self.down:
            return
        for order in self._ear.hear(byte):
            self.run(time)
            self.frames += 1
            self.bad += order.error != 0
            answers = [a for a in [self.special(order, time)] if a]
            for k, board in enumerate(self.boards):
                if self.meant(order, board):
                    answer = self._obey(order, board, k, time)
                    if answer and not self._mute(k):
                        answers.append(answer)
            if answers:  # who talks at once is heard as all zeros that anyone sends
                merged = bytearray(b"\xff" * max(map(len, answers)))
                for answer in answers:
                    for j, value in enumerate(answer):
                        merged[j] &= value
                self.say(bytes(merged), time + THINK)

    def meant(self, order: Order, board: Board) -> bool:
        """Whether an order is for a board."""
        return order.device in (-1, board.device)

    def special(self, order: Order, time: float) -> bytes | None:
        """What a line of boards understands beyond its boards."""
        return None

    def _mute(self, k: int) -> bool:
        return any(self.horns.bus[f.motor] == k for f in self.faults.of("silent"))

    def _targets(self, order: Order, board: Board) -> list[tuple[int, int]]:
        """Channels and targets that an order asks a board for."""
        d = order.data
        if order.command == SET_TARGET:
            out = [(d[0], d[1] | d[2] << 7)]
        elif order.command == MULTIPLE:
            out = [(d[1] + j, d[2 + 2 * j] | d[3 + 2 * j] << 7) for j in range(d[0])]
        elif order.command == MINI_SSC:
            out = [(d[0], board.low + round(d[1] / 254 * (board.high - board.low)))] if d[1] < 255 else []
        elif order.command == HOME:
            out = [(k, 0) for k in range(board.channels)]
        else:
            out = []
        return [(c, t) for c, t in out if c < board.channels]

    def _obey(self, order: Order, board: Board, k: int, time: float) -> bytes | None:
        if order.error:
            board.errors |= order.error
            return None
        targets = self._targets(order, board)
        if order.command in (SET_TARGET, MULTIPLE, MINI_SSC, HOME):
            asked = order.data[0] if order.command == MULTIPLE else 1
            if order.command in (SET_TARGET, MULTIPLE) and len(targets) < asked:
                board.errors |= PROTOCOL
                return None
            for channel, target in targets:
                board.aim(channel, target)
            done = [(m, t) for c, t in targets if (m := self.horns.places.get((k, c))) is not None]
            if done:
                self.log.do(time, [m for m, _ in done], [t for _, t in done])
            return None
        return self._answer(order, board)

    def _answer(self, order: Order, board: Board) -> bytes | None:
        d = order.data
        if order.command in (POSITION, SPEED, ACCELERATION) and d[0] >= board.channels:
            board.errors |= PROTOCOL
        elif order.command == POSITION:
            return board.position[d[0]].to_bytes(2, "little")
        elif order.command == SPEED:
            board.speed[d[0]] = d[1] | d[2] << 7
        elif order.command == ACCELERATION:
            board.acceleration[d[0]] = min(d[1] | d[2] << 7, 255)
        elif order.command == MOVING:
            moving = any(t != p for t, p in zip(board.target, board.position, strict=True))
            return bytes([moving])
        elif order.command == ERRORS:
            told, board.errors = board.errors, 0
            return told.to_bytes(2, "little")
        elif order.command == SCRIPT:
            return b"\x01"  # stopped
        return None

    # --- time --------------------------------------------------------------------------------------

    def run(self, now: float) -> None:
        """Pulses up to `now`, in their order."""
        while True:
            k = min(range(len(self.boards)), key=lambda j: self.boards[j].next_pulse)
            board = self.boards[k]
            if board.next_pulse > now:
                break
            if not any(b.busy for b in self.boards):
                for b in self.boards:  # nothing will change: on to the first pulse after now
                    b.next_pulse += (int((now - b.next_pulse) / self.period) + 1) * self.period
                break
            time = board.next_pulse
            board.next_pulse += self.period
            if not board.busy or self.down:
                continue
            for channel in board.pulse(self.period):
                motor = self.horns.places.get((k, channel))
                if motor is not None:
                    self._drive(motor, board.position[channel], time)
        self.servos.advance(now)

    def _drive(self, motor: int, pulse: int, time: float) -> None:
        self.servos.power(motor, pulse != 0, time)
        if pulse:
            self.servos.aim(motor, self.horns.command(motor, self.shaped(pulse)), time)

    def shaped(self, pulse: int) -> float:
        """The pulse that really comes out, in quarter-microseconds."""
        return float(pulse)

    def restart(self, now: float) -> None:
        """See `Bus.restart`."""
        for board in self.boards:
            board.restart()
        self._ear.forget()
        for motor in range(self.servos.n):
            self.servos.power(motor, False, now)

    def latch(self, motor: int) -> None:
        """Hobby servos report nothing: the board's error register does, once."""
        self.boards[self.horns.bus[motor]].errors |= OVERRUN
