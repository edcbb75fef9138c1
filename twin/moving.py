"""A face in motion: postures along a way of its motors, with the skin's creep and swing.

`FaceTwin` has no time; `SkinDynamics` wants the equilibrium at every moment. The exact one costs
milliseconds, so it is solved only where someone looks. In between it is taken to go from one solved shape
to the next as the motors went, plus what the linear skin says of motors that took another way. What that
costs in accuracy is in docs/time.md.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetwin.twin.dynamics import SkinDynamics, skin_modes
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.skin.exact import ExactSkin
from facetwin.twin.skin.linear import LinearSkin
from facetwin.twin.spec import SkinTime
from facetwin.twin.twin import FaceTwin, State, build_skin

Floats = NDArray[np.float64]
#: commands; motors nearer than this stand still
STILL = 1e-9
#: commands: steps of one motor to see what the skin does, for solvers that don't know their slope
STEP = 1e-2


class MovingFace:
    """A `FaceTwin` whose skin takes its time.

    Parameters
    ----------
    twin : FaceTwin
        With any solver. It stays usable by itself.
    time : SkinTime, optional
        The twin's own (`twin.spec.skin_time`) by default.
    """

    def __init__(self, twin: FaceTwin, time: SkinTime | None = None) -> None:
        self.twin = twin
        self.time = twin.spec.skin_time if time is None else time
        modes = skin_modes(_exact(twin), self.time.modes) if self.time.modes else None
        self.dynamics = SkinDynamics(self.time, twin.face.rest, twin.kinematics.anchored, modes)
        self._slope: Floats | None = None
        self._metric = np.zeros((twin.spec.size, twin.spec.size))
        self.reset(twin.spec.rest)

    def reset(self, position: ArrayLike) -> None:
        """Stand still at motor positions [shape=(n,)], in commands, as if held there for ever."""
        self._position = np.array(position, dtype=np.float64)
        self._shape: Floats | None = None

    def move(self, way: ArrayLike, durations: ArrayLike) -> State:
        """Posture at the end of a way.

        Parameters
        ----------
        way : float [shape=(k, n)], commands
            Motor positions at the ends of k stretches.
        durations : float [shape=(k,)], s
            How long each stretch took.

        Returns
        -------
        State
            With the shape and the lips' gap that are really seen; `report` is that of the equilibrium.
        """
        places, times = np.asarray(way, dtype=np.float64), np.asarray(durations, dtype=np.float64)
        n = self.twin.spec.size
        if places.ndim != 2 or places.shape[1] != n or not len(places) or times.shape != places.shape[:1]:
            raise FaceTwinError("not a way", where="MovingFace.move", found=(places.shape, times.shape),
                                expected=f"(k, {n}) and (k,), k > 0")  # fmt: skip
        start = self._position
        moving = bool(np.abs(places - start).max() > STILL)
        if self._shape is None and moving:
            self._shape = self.twin.move(start).vertices
            self.dynamics.reset(self._shape)
        state = self.twin.move(places[-1])
        if self._shape is None:
            self.dynamics.reset(state.vertices)
            self._shape = state.vertices
        shown = state.vertices
        for shape, time in self._between(self._shape, state.vertices, places, times, moving):
            shown = self.dynamics.step(shape, time)
        self._position, self._shape = places[-1].copy(), state.vertices
        return replace(state, vertices=shown, gap=self.twin.gap(shown))

    def _between(
        self, before: Floats, after: Floats, places: Floats, times: Floats, moving: bool
    ) -> list[tuple[Floats, float]]:
        # the equilibrium at the end of each stretch, stretches without motion put together
        if not moving:
            return [(after, float(times.sum()))]
        slope = self._slopes()
        start, way = self._position, places[-1] - self._position
        toll = self._metric @ way
        length = float(way @ toll)
        out: list[tuple[Floats, float]] = []
        for k in range(len(places)):
            if k == len(places) - 1:
                out.append((after, float(times[k])))
                break
            if k and np.abs(places[k] - places[k - 1]).max() <= STILL and out:
                out.append((out[-1][0], float(times[k])))
                continue
            gone = places[k] - start
            share = min(max(float(gone @ toll) / length, 0.0), 1.0) if length > 1e-12 else 0.0
            shape = before + share * (after - before)
            aside = gone - share * way
            if np.abs(aside).max() > 1e-6:
                shape += (aside @ slope).reshape(shape.shape)
            out.append((shape, float(times[k])))
        return _merged(out)

    def _slopes(self) -> Floats:
        """What the linear skin does for each motor at rest, float64 [shape=(n, 3N), m per command]."""
        if self._slope is None:
            twin = self.twin
            if isinstance(twin.skin, (ExactSkin, LinearSkin)):
                skin = LinearSkin(twin.skin) if isinstance(twin.skin, ExactSkin) else twin.skin
                slope = skin.jacobian(twin.kinematics.tangents())  # (n, N, 3)
            else:
                rest = twin.move(twin.spec.rest).vertices
                solved = [twin.move(at).vertices for at in twin.spec.rest + STEP * np.eye(twin.spec.size)]
                slope = (np.stack(solved) - rest) / STEP
            self._slope = np.ascontiguousarray(slope.reshape(twin.spec.size, -1))
            self._metric = self._slope @ self._slope.T
        return self._slope


def _merged(steps: list[tuple[Floats, float]]) -> list[tuple[Floats, float]]:
    out: list[tuple[Floats, float]] = []
    for shape, time in steps:
        if len(out) > 1 and out[-1][0] is shape and out[-2][0] is shape:
            out[-1] = (shape, out[-1][1] + time)  # stood there all the time
        else:
            out.append((shape, time))
    return out


def _exact(twin: FaceTwin) -> ExactSkin:
    if isinstance(twin.skin, ExactSkin):
        return twin.skin
    return build_skin(twin.spec, twin.face, twin.kinematics)


__all__ = ["MovingFace"]
