"""Adversarial commands through the safety layer: does anything forbidden ever come out?

    python benchmarks/safety_fuzz.py [--sequences 100000] [--rig face26] [--seed 0]

A sequence is 20 writes. What is written and when is drawn to hurt: not finite, far out of range, jumps from
end to end, forbidden combinations and their edges, goals that jump back while the face moves, bursts within a
microsecond, pauses from nothing to ten seconds, with and without a watchdog. Each sequence goes on from where
the last one left the face. What comes out is judged by `Referee`, which knows the rig table and nothing of
the layer's way of thinking. Prints one table: broken rules, and how near the worst came to each.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter

import numpy as np

from facetwin.hardware.clock import SimClock
from facetwin.hardware.rig import Capabilities, Rig, RigState
from facetwin.hardware.safety import SafetyLayer
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.spec import BoxRule, RigSpec, load_rig

WRITES = 20


class Sink(Rig):
    """Servos that stand where they were sent, and remember when that was."""

    def __init__(self, spec: RigSpec) -> None:
        super().__init__(spec, SimClock())
        self.sent: list[tuple[float, np.ndarray]] = []
        self.stopped: list[float] = []
        self._nothing = np.full(spec.size, np.nan)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(simulated=True, measures=False, camera=None)

    def _open(self) -> None: ...
    def _activate(self, present: np.ndarray) -> None: ...
    def _release(self) -> None: ...
    def _close(self) -> None: ...

    def _write(self, command: np.ndarray) -> None:
        self.sent.append((self.clock.now(), command.copy()))

    def _hold(self) -> None:
        self.stopped.append(self.clock.now())

    def _read(self) -> RigState:
        none = self._nothing
        return RigState(self.clock.now(), self._commanded.copy(), none, none, none, none)


class Referee:
    """Judges what was sent, in the order of time; see the module's head.

    Speed of a step is its length over the time since the one before, at most `longest` s of it; acceleration
    is the change of speed over the time between the middles of two steps. After a longer pause, or after a
    stop by the watchdog, the face stands. Of commands within one instant the last counts.
    """

    def __init__(self, spec: RigSpec, longest: float, start: np.ndarray, now: float) -> None:
        self.spec, self.longest = spec, longest
        self.low, self.high = spec.soft_limits
        self.speed = np.array([m.max_speed for m in spec.motors]) / spec.span
        self.acceleration = np.array([m.max_acceleration for m in spec.motors]) / spec.span
        boxes = [rule for rule in spec.couplings if isinstance(rule, BoxRule)]
        lines = [rule for rule in spec.couplings if not isinstance(rule, BoxRule)]
        sides = [(spec.index(name), low, high) for rule in boxes for name, (low, high) in rule.when]
        self.first = np.cumsum([0] + [len(rule.when) for rule in boxes])[:-1]
        self.motor = np.array([m for m, _, _ in sides])
        self.above = np.array([low if low > 0 else -np.inf for _, low, _ in sides])
        self.below = np.array([high if high < 1 else np.inf for _, _, high in sides])
        self.weights = np.array([[dict(r.weights).get(n, 0.0) for n in spec.names] for r in lines])
        self.weights = self.weights.reshape(len(lines), spec.size)
        self.most = np.array([rule.at_most for rule in lines])
        self.broken: Counter[str] = Counter()
        self.worst = dict.fromkeys(("limit", "coupling", "speed", "acceleration"), -np.inf)
        self.x, self.v, self.last, self.time = start.copy(), np.zeros(spec.size), 0.0, now
        self.before = (self.x, self.v, self.last, self.time)
        self.judged = 0

    def stop(self) -> None:
        """The watchdog stopped the face, which is for it to do at any speed."""
        self.v, self.last = np.zeros(self.spec.size), 0.0

    def take(self, now: float, command: np.ndarray) -> None:
        """Judge one command."""
        self.judged += 1
        if now > self.time:
            self.before = (self.x, self.v, self.last, self.time)
        x, v, last, then = self.before
        gap = now - then
        if gap <= 0:  # at once after it was switched on: a gentle first step
            gap = 0.02
        if gap > self.longest:
            gap, v, last = self.longest, np.zeros_like(v), 0.0
        new = (command - x) / gap
        rounding = 4e-16 / gap
        self._note("limit", np.maximum(self.low - command, command - self.high).max(), 1e-12)
        self._note("coupling", self._depth(command), 1e-9)
        over = (np.abs(new) - self.speed) / self.speed
        self._note("speed", over.max(), 1e-9 + rounding)
        allowed = self.acceleration * (last + gap) / 2
        if last > 0:
            rounding += 4e-16 / last  # numbers near 1 tell no finer steps
        over = (np.abs(new - v) - allowed - 3 * rounding) / self.acceleration
        self._note("acceleration", over.max(), 1e-9)
        self.x, self.v, self.last, self.time = command, new, gap, now

    def _depth(self, c: np.ndarray) -> float:
        """How deep a command is in a forbidden combination; negative: how far from all of them."""
        over = (self.weights @ c - self.most).max(initial=-np.inf)
        inside = np.minimum(c[self.motor] - self.above, self.below - c[self.motor])
        return max(float(over), float(np.minimum.reduceat(inside, self.first).max()))

    def _note(self, rule: str, value: float, tolerance: float) -> None:
        self.worst[rule] = max(self.worst[rule], float(value))
        if not value <= tolerance:
            self.broken[rule] += 1


class Adversary:
    """Draws what to write and when."""

    def __init__(self, spec: RigSpec, rng: np.random.Generator) -> None:
        self.spec, self.rng = spec, rng
        edges = [np.array([0.0, 1.0, -0.5, 1.5, 1e300]), spec.soft_limits[0], spec.soft_limits[1]]
        for rule in spec.couplings:
            if isinstance(rule, BoxRule):
                edges += [np.array(span) for _, span in rule.when]
        self.edges = np.concatenate(edges)
        self.corners = [
            {spec.index(n): span for n, span in r.when} for r in spec.couplings if isinstance(r, BoxRule)
        ]

    def sequence(self) -> list[tuple[float, np.ndarray]]:
        """Pauses (s) and commands of one sequence."""
        rng, n = self.rng, self.spec.size
        style = rng.integers(6)
        pace = 10.0 ** rng.uniform(-4, -1)
        command = rng.random(n)
        out = []
        for k in range(WRITES):
            kind = rng.integers(6) if style == 0 else style
            if kind == 1:  # from end to end
                command = rng.choice([0.0, 1.0], n)
            elif kind == 2:  # edges of everything
                command = rng.choice(self.edges, n) + rng.choice([0.0, 1e-12, -1e-12, 1e-6], n)
            elif kind == 3:  # there and back again
                command = command if k % rng.integers(1, 4) else 1.0 - command
            elif kind == 4 and self.corners:  # into forbidden combinations, and across them
                command = command.copy()
                for motor, (low, high) in self.corners[rng.integers(len(self.corners))].items():
                    command[motor] = rng.choice([rng.uniform(low, high), low - 0.1, high + 0.1, low, high])
            elif kind == 5:
                command = rng.normal(0.5, 2.0, n)
            if rng.random() < 0.02:
                command = command.copy()
                command[rng.integers(n)] = rng.choice([np.nan, np.inf, -np.inf])
            pause = pace * rng.choice([1.0, 1.0, 1.0, 0.5, 2.0, rng.random()])
            if rng.random() < 0.05:
                pause = rng.choice([0.0, 1e-9, 1e-6, 0.0999, 0.1, 0.1001, 0.5, 3.0, 10.0])
            out.append((float(pause), command))
        return out


def play(layer: SafetyLayer, referee: Referee, sequence: list[tuple[float, np.ndarray]]) -> int:
    """Write a sequence and judge what came out of it; returns how many commands were refused."""
    sink = layer.inner
    assert isinstance(sink, Sink)
    refused = 0
    for pause, command in sequence:
        layer.clock.sleep(pause)
        try:
            layer.write(command)
        except FaceTwinError:
            assert not np.isfinite(command).all()
            refused += 1
        events = [(t, 1, c) for t, c in sink.sent] + [(t, 0, None) for t in sink.stopped]
        events.sort(key=lambda event: event[:2])
        for now, _, sent in events:
            if sent is None:
                referee.stop()
            else:
                referee.take(now, sent)
        sink.sent.clear()
        sink.stopped.clear()
    return refused


def fuzz(spec: RigSpec, sequences: int, seed: int, **settings: object) -> tuple[Referee, int]:
    """Play sequences on one face; returns the referee and how many commands were refused."""
    layer = SafetyLayer(Sink(spec), **settings)
    layer.open()
    layer.activate()
    referee = Referee(spec, layer.longest_step, spec.rest, layer.clock.now())
    adversary = Adversary(spec, np.random.default_rng(seed))
    refused = sum(play(layer, referee, adversary.sequence()) for _ in range(sequences))
    layer.close()
    return referee, refused


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sequences", type=int, default=100_000)
    parser.add_argument("--rig", default=None, help="one rig table; default: all, shared among them")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    slow = {"servo.max_acceleration": 20.0, "servo.max_speed": 4.0}
    cases = [("face26", {}, {}), ("face26", slow, {}), ("face26", {}, {"watchdog": None}),
             ("emo23", {}, {}), ("emo23", slow, {})]  # fmt: skip
    cases = [c for c in cases if options.rig in (None, c[0])]
    print(f"{'rig':<8} {'acc.':<8} {'watchdog':<9} {'sequences':>9} {'sent':>9} {'refused':>8} "
          f"{'limit':>6} {'coupling':>9} {'speed':>6} {'accel.':>7}  nearest to each")  # fmt: skip
    start = time.monotonic()
    broken = 0
    for k, (name, changes, settings) in enumerate(cases):
        count = options.sequences // len(cases) + (k < options.sequences % len(cases))
        spec = load_rig(name).with_(changes) if changes else load_rig(name)
        referee, refused = fuzz(spec, count, options.seed + k, **settings)
        b = referee.broken
        near = ", ".join(f"{rule} {value:.1e}" for rule, value in referee.worst.items())
        broken += sum(b.values())
        print(f"{name:<8} {'20' if changes else 'table':<8} {'off' if settings else '1 s':<9} {count:>9} "
              f"{referee.judged:>9} {refused:>8} {b['limit']:>6} {b['coupling']:>9} {b['speed']:>6} "
              f"{b['acceleration']:>7}  {near}", flush=True)  # fmt: skip
    spent = f"{time.process_time():.0f} s CPU, {time.monotonic() - start:.0f} s"
    print(f"{broken} broken rules, {spent}, seed {options.seed}")


if __name__ == "__main__":
    main()
