"""The other side of an emulated rig: its faults, what it hides, and how the wire is doing.

For tests and comparisons. Nothing here is known to the driver.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
import threading
import weakref
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetwin.hardware.emulated.faults import checked
from facetwin.hardware.emulated.robot import Processes
from facetwin.hardware.emulated.tables import table_of
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.randomise import draw
from facetwin.twin.spec import RigSpec

_numbers = itertools.count()
#: s that the robot stays on the table after `close`; opened again meanwhile, it stands where it stood
LINGER = 5.0
FOREVER = 1e9


@dataclass(frozen=True)
class Goals:
    """Goals in their order: times float64 [shape=(k,), s], motors and units int64 [shape=(k,)]."""

    time: NDArray[np.float64]
    motor: NDArray[np.int64]
    units: NDArray[np.int64]


class Emulator:
    """The robot behind an emulated rig.

    Parameters
    ----------
    setup : dict
        Kind, baud, wiring and boards, as the wire process takes them.
    spec : RigSpec
        The table that the driver goes by.
    body : int
        Seed of the hidden body, drawn from `ranges`; 0: a body exactly like the table.
    shape : (H, W, 3) or None
        Of the pictures; None: no camera and no body process.
    like : RigSpec, optional
        The table whose `ranges` the body is drawn from; `spec` by default.

    Attributes
    ----------
    path : str
        Port for a driver, while it runs.
    eye_path : str
        Socket for `EmulatorEye`, while it runs.
    body : RigSpec
        The hidden body.
    drawn : dict of key -> float
        How it differs from the table.
    """

    def __init__(
        self,
        setup: dict[str, Any],
        spec: RigSpec,
        body: int,
        shape: tuple[int, int, int] | None,
        like: RigSpec | None = None,
    ) -> None:
        name = f"facetwin-{os.getpid()}-{next(_numbers)}"
        folder = os.path.join(tempfile.gettempdir(), name)
        self.path, self.eye_path = os.path.join(folder, "tty"), os.path.join(folder, "eye")
        self.spec, self.seed, self.shape = spec, body, shape
        if body:
            self.body, self.drawn = draw(like or spec, np.random.default_rng(body))
        else:
            self.body, self.drawn = spec, {}
        self.setup = {**setup, "path": self.path, "eye": self.eye_path, "seed": body,
                      "body": table_of(self.body), "shape": shape}  # fmt: skip
        self._robot: Processes | None = None
        self._end: Any = None
        self._lock = threading.RLock()

    # --- life ------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether its processes run."""
        return self._robot is not None and self._robot.alive

    def start(self) -> None:
        """Put the robot on the table, or keep the one that still stands there."""
        with self._lock:
            if self._robot is not None:
                try:
                    if self._robot.alive:
                        self._robot.rest(FOREVER)
                        if self._robot.alive:
                            return
                except FaceTwinError:
                    pass
                self.stop()
            self._robot = Processes(self.setup, self.shape)
            self._end = weakref.finalize(self, self._robot.stop)

    def rest(self, seconds: float = LINGER) -> None:
        """Take it away in so many seconds, unless it is started again."""
        with self._lock:
            if self._robot is not None and self._robot.alive:
                self._robot.rest(seconds)

    def stop(self) -> None:
        """Take it away now; stopping twice is fine."""
        with self._lock:
            robot, self._robot = self._robot, None
            if robot is not None:
                if self._end is not None:
                    self._end.detach()
                robot.stop()

    def pids(self) -> tuple[int, ...]:
        """Of the processes that run."""
        return tuple(c.process.pid for c in self._robot.children) if self._robot is not None else ()

    # --- faults ------------------------------------------------------------------------------------

    def fault(self, kind: str, **how: Any) -> None:
        """Let something go wrong: see `facetwin.hardware.emulated.faults` for kinds and settings.

        Raises `UsageError` for an unknown kind, setting or motor.

        Examples
        --------
        ``fault("drop", rate=0.01)``, ``fault("silent", motor="jaw", duration=0.5)``, ``fault("unplug")``
        """
        settings = checked(kind, how, self.spec.names)
        self._ask({"do": "fault", "kind": kind, **settings})

    def clear(self) -> None:
        """All is well again: cable in, servos answer, errors unlatched; motors stay off until activated."""
        self._ask({"do": "clear"})

    # --- what it hides -----------------------------------------------------------------------------

    def truth(self) -> dict[str, Any]:
        """What no driver knows.

        Returns
        -------
        dict
            Per motor, float64 [shape=(n,)]: `latency` (s, servo alone), `delay` (s, from the last bit on
            the wire to the servo's first motion, on average: servo and pulse period), `backlash`,
            `dead_band`, `trim` (rad), `scale`, `max_speed` (rad/s), and as it is now `position` (loads,
            commands), `shaft`, `goal`, `load`, `temperature`, and `on`, `blocked`; `voltage` (V); `camera`,
            `material`, `skin_time` of the body; `drawn`.
        """
        now = self._ask({"do": "truth"})
        body = self.body
        out: dict[str, Any] = {k: np.asarray(v) if isinstance(v, list) else v for k, v in now.items()}
        for key in ("latency", "backlash", "dead_band", "trim", "scale", "max_speed", "natural_frequency",
                    "damping_ratio"):  # fmt: skip
            out[key] = np.array([getattr(m, key) for m in body.motors])
        out["delay"] = out["latency"] + self.setup["boards"].get("period", 0.0) / 2
        out["drawn"] = dict(self.drawn)
        out["material"], out["skin_time"] = asdict(body.material), asdict(body.skin_time)
        out["camera"] = asdict(body.cameras["mirror"])
        if self._robot is not None and self._robot.film is not None:
            got = self._robot.film.get(FOREVER)
            if got is not None:
                out["gap_mm"], out["exposed"], out["seen_position"] = got[2] * 1e3, got[1], got[3]
            out["picture_rate"] = float(self._robot.film.state[1])
        return out

    def health(self) -> dict[str, Any]:
        """Counters since the start.

        `received`, `sent` (bytes at the pty), `frames`, `bad` (refused by checksum or form), `framing`
        (missing stop bits), `collisions`, `dropped`, `flipped` (by faults), `asked`, `done` (frames with
        goals: as sent by the driver, as taken by servos), `strange` (goals that servos took and nobody had
        sent), `late` (s, longest turn), `plugged`, `faults` (kinds that are on), `cpu` (s).
        """
        return self._ask({"do": "health"})

    def goals(self, which: str = "asked", since: float = 0.0) -> Goals:
        """Goals after a time (s, monotonic): "asked" by the driver, or "done", taken by servos."""
        rows = self._ask({"do": "goals", "which": which, "since": since}, 60.0)["goals"]
        times = [t for t, motors, _ in rows for _ in motors]
        motors = [m for _, row, _ in rows for m in row]
        units = [u for _, _, row in rows for u in row]
        return Goals(np.array(times, dtype=np.float64), np.array(motors, dtype=np.int64),
                     np.array(units, dtype=np.int64))  # fmt: skip

    def _ask(self, order: dict[str, Any], timeout: float = 20.0) -> dict[str, Any]:
        robot = self._robot
        if robot is None:
            raise FaceTwinError("the emulated robot does not run", where="emulator", hint="open() the rig")
        return robot.wire.ask(order, timeout)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.stop()
