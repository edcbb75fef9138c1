"""The `bullet:` rig: a simulated rig with another body, PyBullet's joints under PyBullet's skin.

For checks that should not be made on the twin that a policy was trained in, calibration first of all: its
servos and its skin obey other laws (`facetwin.twin.bullet`). Slow: a picture takes about a second.
"""

from __future__ import annotations

from pathlib import Path

from facetwin.hardware.clock import SimClock
from facetwin.hardware.sim import SimRig, Twin
from facetwin.twin.bullet import BulletHead, BulletTwin
from facetwin.twin.changing import check_alike
from facetwin.twin.spec import RigSpec, load_rig


class BulletRig(SimRig):
    """A face that exists only in PyBullet.

    Parameters
    ----------
    spec : RigSpec, rig name or path of a TOML file
    body : the same, optional
        What is simulated, hidden behind `spec`; the same table without one.
    seed : int, at least 0
        Of the camera's noise.
    size : (width, height) or int, px, optional
        Of the pictures; the rig file's by default.
    tick : float, s
        Grid on which commands take effect.
    limit : int
        Steps that the skin gets to settle in a picture; see `BulletTwin`.
    twin : Twin, optional
        Another face, built for the same `spec`.
    clock : SimClock, optional
        To share simulated time with others.
    """

    def __init__(
        self,
        spec: RigSpec | str | Path = "face26",
        *,
        body: RigSpec | str | Path | None = None,
        seed: int = 0,
        size: tuple[int, int] | int | None = None,
        tick: float = 0.005,
        limit: int = 20,
        twin: Twin | None = None,
        clock: SimClock | None = None,
    ) -> None:
        super().__init__(spec, solver="bullet", seed=seed, size=size, tick=tick, twin=twin, clock=clock)
        self._limit = limit
        if body is not None:
            hidden = body if isinstance(body, RigSpec) else load_rig(body)
            check_alike(self.spec, hidden)
            self._body = hidden
            self._prepare()
        self._bank = BulletHead(self._body, tick)  # type: ignore[assignment]  # answers like a ServoBank
        self._restart()

    def _open(self) -> None:
        if self._twin is None:
            self._twin = BulletTwin(self._body, size=self._size, limit=self._limit)
        self._restart()
