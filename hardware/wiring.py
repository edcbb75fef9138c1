"""How motors are wired: the only place that knows what a command is in the units of the wire.

A servo's angle is `sign` x joint angle (rig table), and stands for ``zero + per_rad x joint angle`` units.
Kinds of units: ``maestro`` quarter-microseconds of the pulse, ``dynamixel`` and ``feetech`` ticks of a turn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetwin.twin.errors import UsageError
from facetwin.twin.spec import RigSpec, load_rig
from facetwin.twin.spec_table import suggest

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Kind:
    """Units of one kind of servo, before a face's own wiring.

    `middle`: units at servo angle 0; `per_rad`: units per rad of servo angle; `low`, `high`: what may be
    sent; `numbers`: lowest and highest channel or id; `unit`: the name of a unit.
    """

    middle: float
    per_rad: float
    low: int
    high: int
    numbers: tuple[int, int]
    unit: str


#: A hobby servo turns 180 degrees for pulses of 500 to 2500 us; a Dynamixel X and a Feetech STS count 4096
#: ticks a turn with 2048 in the middle (their control tables).
KINDS = {
    "maestro": Kind(6000.0, 8000 / math.pi, 2000, 10000, (0, 127), "0.25 us"),
    "dynamixel": Kind(2048.0, 4096 / math.tau, 0, 4095, (0, 252), "ticks"),
    "feetech": Kind(2048.0, 4096 / math.tau, 0, 4095, (0, 253), "ticks"),
}
_KEYS = ("bus", "channel", "zero", "per_rad", "low", "high")


@dataclass(frozen=True)
class Wiring:
    """Where each motor hangs and how its commands become units of the wire; arrays are [shape=(n,)].

    Attributes
    ----------
    bus, channel : int64
        Number of the board, and the channel or servo id there.
    zero, per_rad : float64
        Units at joint angle 0, units per rad of joint angle (the table's sign applied).
    low, high : int64
        Units that may be sent.
    lower, span : float64, rad
        Joint angle at command 0, and from command 0 to command 1.
    names : tuple of str
        Motors.
    kind : str
        Key of `KINDS`.
    """

    bus: Ints
    channel: Ints
    zero: Floats
    per_rad: Floats
    low: Ints
    high: Ints
    lower: Floats
    span: Floats
    names: tuple[str, ...]
    kind: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "_offset", self.zero + self.per_rad * self.lower)
        object.__setattr__(self, "_gain", self.per_rad * self.span)

    @property
    def size(self) -> int:
        """Number of motors."""
        return len(self.names)

    def units(self, command: ArrayLike) -> Ints:
        """Finite commands [shape=(..., n)] in units of the wire, rounded, clipped to `low`..`high`."""
        offset, gain = self._offset, self._gain  # type: ignore[attr-defined]
        exact = offset + np.asarray(command, dtype=np.float64) * gain
        return np.clip(np.rint(exact).astype(np.int64), self.low, self.high)

    def commands(self, units: ArrayLike) -> Floats:
        """Units [shape=(..., n)] as commands, not clipped; NaN stays NaN."""
        offset, gain = self._offset, self._gain  # type: ignore[attr-defined]
        return (np.asarray(units, dtype=np.float64) - offset) / gain

    def sent(self, units: ArrayLike, command: ArrayLike) -> Floats:
        """The commands that units [shape=(n,)] really are; `command` itself where rounding alone differs."""
        real, asked = self.commands(units), np.asarray(command, dtype=np.float64)
        step = 0.5 / np.abs(self._gain)  # type: ignore[attr-defined]
        return np.where(np.abs(real - asked) <= step * (1 + 1e-9), asked, real)


def wiring_of(spec: RigSpec, kind: str, changes: Mapping[str, Mapping[str, float]] | None = None) -> Wiring:
    """The wiring of a rig table, with a face's own changes.

    Parameters
    ----------
    spec : RigSpec
    kind : "maestro", "dynamixel" or "feetech"
        Boards and channels are the table's for ``maestro``; otherwise all motors hang on bus 0 and the id
        is the motor's place in the table, from 1.
    changes : dict, optional
        Motor -> any of ``bus``, ``channel`` (or id), ``zero`` (units at joint angle 0), ``per_rad`` (units
        per rad of servo angle; the table's sign is applied to it, negative turns the servo round), ``low``,
        ``high`` (units).

    Raises
    ------
    UsageError
        An unknown motor or key, two motors on one channel, or a motor whose range does not fit.

    Notes
    -----
    A table of absolute hobby degrees (0 to 180, as ``emo23``) does not fit around zero: where more motors
    fit that way, servo angle 90 degrees is the middle of all of them. For a part of a table (a bus of a face
    file) the whole of its file decides: its motors must not go elsewhere when they hang on another bus.
    """
    if kind not in KINDS:
        raise UsageError("no such kind of wiring", found=kind, expected="one of " + ", ".join(KINDS),
                         hint=suggest(kind, tuple(KINDS)))  # fmt: skip
    k, n = KINDS[kind], spec.size
    given = _checked(spec, changes or {})
    hobby = kind == "maestro"
    bus = np.array([m.bus if hobby else 0 for m in spec.motors], dtype=np.int64)
    channel = np.array([m.channel if hobby else i + 1 for i, m in enumerate(spec.motors)], dtype=np.int64)
    sign = np.array([m.sign for m in spec.motors], dtype=np.float64)
    zero, per_rad = np.full(n, k.middle), np.full(n, k.per_rad)
    low, high = np.full(n, k.low, dtype=np.int64), np.full(n, k.high, dtype=np.int64)
    for i, name in enumerate(spec.names):
        own = given.get(name, {})
        per_rad[i] = own.get("per_rad", per_rad[i])
        bus[i], channel[i] = own.get("bus", bus[i]), own.get("channel", channel[i])
        low[i], high[i] = own.get("low", low[i]), own.get("high", high[i])
    per_rad = per_rad * sign
    degrees = _degrees(_whole(spec), k)
    for i, name in enumerate(spec.names):
        # in a table of hobby degrees servo angle 90 degrees is the middle: sign x per_rad is per rad of that
        middle = zero[i] - sign[i] * per_rad[i] * math.pi / 2 if degrees else zero[i]
        zero[i] = given.get(name, {}).get("zero", middle)
    wiring = Wiring(
        bus=_frozen(bus), channel=_frozen(channel), zero=_frozen(zero), per_rad=_frozen(per_rad),
        low=_frozen(low), high=_frozen(high), lower=spec.lower, span=spec.span, names=spec.names, kind=kind,
    )  # fmt: skip
    _check(wiring, spec, k)
    return wiring


def _checked(spec: RigSpec, changes: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    out: dict[str, dict[str, float]] = {}
    for name, own in changes.items():
        where = f"{spec.name}: wiring"
        if name not in spec.names:
            raise UsageError("no such motor", where=where, found=name, hint=suggest(name, spec.names))
        if not isinstance(own, Mapping):
            raise UsageError("not a table", where=f"{where} of {name}", found=own,
                             expected="of " + ", ".join(_KEYS))  # fmt: skip
        for key, value in own.items():
            if key not in _KEYS:
                raise UsageError("no such key", where=f"{where} of {name}", found=key,
                                 expected="one of " + ", ".join(_KEYS), hint=suggest(key, _KEYS))  # fmt: skip
            _number(value, f"{where} of {name}: {key}", whole=key not in ("zero", "per_rad"))
        if own.get("per_rad") == 0:
            raise UsageError("bad value", where=f"{where} of {name}: per_rad", found=0, expected="not 0")
        out[name] = dict(own)
    return out


def _number(value: Any, where: str, *, whole: bool) -> None:
    good = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not good or not math.isfinite(value) or (whole and value != int(value)):
        raise UsageError("bad value", where=where, found=value,
                         expected="a whole number" if whole else "a finite number")  # fmt: skip


def _whole(spec: RigSpec) -> RigSpec:
    """The table that a part of one comes from, as far as its file tells."""
    if not spec.source:
        return spec
    try:
        whole = load_rig(spec.source)
    except UsageError:
        return spec
    return whole if set(spec.names) <= set(whole.names) else spec


def _degrees(spec: RigSpec, k: Kind) -> bool:
    """Whether the table's angles fit a servo with 90 degrees in the middle better than one with 0 there."""
    ends = np.array([(m.sign * m.lower, m.sign * m.upper) for m in spec.motors])  # (n, 2), servo angles
    low, high = (k.low - 0.5 - k.middle) / k.per_rad, (k.high + 0.5 - k.middle) / k.per_rad
    outside = [((ends - turn < low) | (ends - turn > high)).any(axis=1).sum() for turn in (0.0, math.pi / 2)]
    return bool(outside[1] < outside[0])


def _misfits(wiring: Wiring) -> NDArray[np.bool_]:
    ends = wiring.zero + wiring.per_rad * (wiring.lower + wiring.span * np.array([[0.0], [1.0]]))  # (2, n)
    return (ends.min(axis=0) < wiring.low - 0.5) | (ends.max(axis=0) > wiring.high + 0.5)


def _check(wiring: Wiring, spec: RigSpec, k: Kind) -> None:
    where = f"{spec.name}: wiring"
    seen: dict[tuple[int, int], str] = {}
    for i, name in enumerate(spec.names):
        number = int(wiring.channel[i])
        if not k.numbers[0] <= number <= k.numbers[1] or wiring.bus[i] < 0:
            raise UsageError("bad channel", where=f"{where} of {name}",
                             found=f"bus {wiring.bus[i]}, channel {number}",
                             expected=f"bus from 0, channel {k.numbers[0]} to {k.numbers[1]}")  # fmt: skip
        other = seen.setdefault((int(wiring.bus[i]), number), name)
        if other != name:
            raise UsageError("two motors on one channel", where=f"{where} of {name}",
                             found=f"bus {wiring.bus[i]}, channel {number}, as {other}",
                             expected="a channel of its own")  # fmt: skip
    wrong = np.flatnonzero(_misfits(wiring))
    if len(wrong):
        i = int(wrong[0])
        ends = sorted(wiring.zero[i] + wiring.per_rad[i] * (spec.lower[i] + spec.span[i] * c) for c in (0, 1))
        raise UsageError(
            "the range of this motor does not fit", where=f"{where} of {spec.names[i]}",
            found=f"{ends[0]:.0f} to {ends[1]:.0f} x {k.unit}",
            expected=f"{wiring.low[i]} to {wiring.high[i]}",
            hint="give its zero, or low and high if its servo takes more",
        )  # fmt: skip


def _frozen(values: NDArray[Any]) -> NDArray[Any]:
    out = values.copy()
    out.flags.writeable = False
    return out
