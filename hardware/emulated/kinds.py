"""The kinds of emulated rigs: which driver each has, and which boards stand at its wire."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib import import_module
from typing import Any

import numpy as np

from facetwin.hardware.serial_rig import SerialRig
from facetwin.twin.errors import UsageError
from facetwin.twin.spec_table import suggest


class Kind(ABC):
    """One kind: `module` and `name` of its driver, `boards` with the settings that they take."""

    module: str
    name: str
    supply = 6.0
    half_duplex = False
    boards: dict[str, Any]
    #: options of the driver whose defaults are another one's here
    options: dict[str, Any] = {}  # noqa: RUF012

    def driver(self) -> type[SerialRig]:
        """The driver's class."""
        cls: type[SerialRig] = getattr(import_module(self.module), self.name)
        return cls

    @abstractmethod
    def fill(self, rig: SerialRig, boards: dict[str, Any]) -> dict[str, Any]:
        """The settings of the boards that suit a driver as it was set up."""

    def setup(self, rig: SerialRig, changes: dict[str, Any]) -> dict[str, Any]:
        """What the wire process is told: kind, supply, wiring and boards."""
        for key in changes:
            if key not in self.boards:
                raise UsageError("no such setting", where="emulated: boards", found=key,
                                 expected="of " + ", ".join(self.boards),
                                 hint=suggest(key, self.boards))  # fmt: skip
        w = rig.wiring
        horns = {
            key: getattr(w, key).tolist() for key in ("bus", "channel", "zero", "per_rad", "lower", "span")
        }
        boards = {**self.boards, **self.fill(rig, dict(self.boards)), **changes}
        kind = next(name for name, known in KINDS.items() if known is self)
        return {"kind": kind, "supply": self.supply, "half_duplex": self.half_duplex, "horns": horns,
                "boards": boards}  # fmt: skip


class _Maestro(Kind):
    module, name = "facetwin.hardware.maestro", "MaestroRig"
    boards: dict[str, Any] = {  # noqa: RUF012
        "devices": None, "channels": 24, "crc": True, "period": 0.02, "low": 1984, "high": 10048,
    }  # fmt: skip
    options: dict[str, Any] = {"crc": True}  # noqa: RUF012

    def fill(self, rig: SerialRig, boards: dict[str, Any]) -> dict[str, Any]:
        """As many boards as the table has, numbered as the driver does it, CRC as the driver has it."""
        count = int(np.max(rig.wiring.bus)) + 1
        numbers = [getattr(board, "device", None) for board in getattr(rig, "boards", [])]
        devices = [12 + k if d is None else int(d) for k, d in enumerate(numbers)]
        return {"devices": devices or [12 + k for k in range(count)], "crc": bool(getattr(rig, "crc", True))}


class _Pca9685(_Maestro):
    module, name = "facetwin.hardware.pca9685", "Pca9685Rig"
    boards: dict[str, Any] = {**_Maestro.boards, "period": 0.02, "firmware": None}  # noqa: RUF012


class _Bus(Kind):
    half_duplex = True

    def fill(self, rig: SerialRig, boards: dict[str, Any]) -> dict[str, Any]:
        """Servos are numbered by the wiring."""
        return {}

    def setup(self, rig: SerialRig, changes: dict[str, Any]) -> dict[str, Any]:
        """As `Kind.setup`; motors may be named."""
        numbered = dict(changes)
        for key in ("missing", "twice"):
            if key in numbered:
                numbered[key] = [rig.spec.index(m) if isinstance(m, str) else int(m) for m in numbered[key]]
        return super().setup(rig, numbered)


class _Dynamixel(_Bus):
    module, name, supply = "facetwin.hardware.dynamixel", "DynamixelRig", 5.0
    boards: dict[str, Any] = {  # noqa: RUF012
        "model": 1200, "firmware": 46, "return_delay": 250, "missing": [], "twice": [], "fast": True,
    }  # fmt: skip


class _Feetech(_Bus):
    module, name, supply = "facetwin.hardware.feetech", "FeetechRig", 7.4
    boards: dict[str, Any] = {"model": 777, "firmware": 3, "return_delay": 0, "missing": [], "twice": []}  # noqa: RUF012


KINDS: dict[str, Kind] = {
    "maestro": _Maestro(), "pca9685": _Pca9685(), "dynamixel": _Dynamixel(), "feetech": _Feetech(),
}  # fmt: skip
