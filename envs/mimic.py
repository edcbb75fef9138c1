"""``facetwin/Mimic-v0``: a goal environment, the face that is wanted given by its landmarks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from facetwin.envs.mirror import LIMIT, MirrorEnv, Obs
from facetwin.hardware.rig import Rig
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.landmarks import POINTS, indices

GOAL = 2 * len(indices("face113"))
TRIES = 20  # poses babbled until one of them shows a face


class Mimic(MirrorEnv):
    """Bring the landmarks of a given pose onto one's own face; a goal environment as Gymnasium-Robotics
    defines it, so that hindsight relabelling works on it.

    Action space
    ------------
    ``Box(0, 1, (26,), float32)``, a command (motors: see `facetwin.envs.mirror_babble.MirrorBabble`).

    Observation space
    -----------------
    A dict:

    | key | space | meaning |
    |--|--|--|
    | observation | Box(0, 1, (26,), float32) | the command really sent, behind the safety layer |
    | achieved_goal | Box(-4, 4, (226,), float32) | x, y of the 113 points of `face113` as seen, u |
    | desired_goal | Box(-4, 4, (226,), float32) | the same of the face wanted |

    Without a face in the picture `achieved_goal` is the last one of the episode (zeros before any).

    Info
    ----
    As in MirrorBabble, and ``distance`` (u), ``is_success`` (distance below `threshold`), and on `reset`
    ``goal_command``, the command that made the goal, if one did, and ``drawn``.

    Reward
    ------
    Minus the mean distance (u) of the 113 points; with ``sparse=True`` 0 on success and -1 otherwise.
    ``compute_reward(achieved_goal, desired_goal, info)`` is the same for one (226,) or a batch (..., 226).

    Episodes
    --------
    Start at rest with a new goal; never terminate (staying there is part of the task); are truncated after
    50 steps. On a simulated rig the goal is babbled: the rig itself takes a random pose behind its safety
    layer, is looked at, and goes home. Same seed and same actions give the same bits.

    Parameters
    ----------
    goals : float [shape=(k, 478, 3) or (k, 226)], u, optional
        Faces to draw goals from, instead of babbling; needed for a rig that is not simulated.
    goal_spread : float in (0, 1]
        Babbled goals lie between rest (0) and anywhere (1).
    sparse : bool
    threshold : float, u
        Of success. Two pictures of one pose differ by about .004 at 256 px.
    others
        See `facetwin.envs.mirror.MirrorEnv`.
    """

    OPTIONS = ("command", "goal", "goal_command", "randomise")

    def __init__(
        self,
        rig: str | Rig = "sim:",
        *,
        size: int | tuple[int, int] | None = None,
        settle: float = 0.5,
        goals: ArrayLike | None = None,
        goal_spread: float = 1.0,
        sparse: bool = False,
        threshold: float = 0.02,
        landmarks: str = "tracker",
        render_mode: str | None = None,
        rig_options: Mapping[str, Any] | None = None,
    ) -> None:
        for key, value, top in (("goal_spread", goal_spread, 1.0), ("threshold", threshold, LIMIT)):
            if not 0 < value <= top:
                raise UsageError(f"bad {key}", where="Mimic", found=value, expected=f"above 0, up to {top:g}")
        self._goals = None if goals is None else _as_goals(goals, "goals")
        super().__init__(
            rig,
            size=size,
            settle=settle,
            landmarks=landmarks,
            render_mode=render_mode,
            rig_options=rig_options,
        )  # fmt: skip
        if self._goals is None and not self.rig.capabilities.simulated:
            raise UsageError("a real rig does not babble its goals", where="Mimic",
                             hint="give goals=..., faces recorded before")  # fmt: skip
        self.goal_spread, self.sparse, self.threshold = float(goal_spread), bool(sparse), float(threshold)
        face = spaces.Box(-LIMIT, LIMIT, (GOAL,), np.float32)
        self.observation_space = spaces.Dict(
            {
                "observation": spaces.Box(0.0, 1.0, (self.rig.spec.size,), np.float32),
                "achieved_goal": face,
                "desired_goal": spaces.Box(-LIMIT, LIMIT, (GOAL,), np.float32),
            }
        )
        self.goal = np.zeros(GOAL, np.float32)

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Any]]:
        """Begin an episode at rest with a new goal.

        Options: ``command``, the pose to begin at; ``goal``, landmarks [shape=(478, 3) or (226,), u]; or
        ``goal_command``, the pose to imitate (simulated rigs only); ``randomise``, as in MirrorBabble.
        """
        asked = self._begin(seed, options)
        command = None
        if "goal" in asked:
            self.goal = _as_goals(np.asarray(asked["goal"])[None], "reset(): goal")[0]
        elif "goal_command" in asked:
            if not self.rig.capabilities.simulated:
                raise UsageError(
                    "a real rig does not babble its goals", where="reset(): goal_command", hint="goal"
                )
            wanted = self._checked_command(asked["goal_command"], "reset(): goal_command")
            command = self._show(wanted)
            if command is None:
                raise FaceTwinError("no face was found in this pose", where="reset(): goal_command")
        elif self._goals is not None:
            self.goal = self._goals[self.np_random.integers(len(self._goals))].copy()
        else:
            command = self._babble()
        if "command" in asked:
            self._go(asked["command"])
        info = self._told(self._look())
        if command is not None:
            info["goal_command"] = command
        if self._drawn:
            info["drawn"] = dict(self._drawn)
        return self._observation(), info

    def step(self, action: NDArray[np.float32]) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Send a command for `settle` seconds, then look."""
        self._act(action)
        info = self._told(self._look())
        seen = self._observation()
        reward = float(self.compute_reward(seen["achieved_goal"], seen["desired_goal"], info))
        return seen, reward, False, False, info

    def compute_reward(self, achieved_goal: ArrayLike, desired_goal: ArrayLike, info: Any) -> Any:
        """Reward of goals [shape=(..., 226), u]: a float, or float32 [shape=(...)] for a batch."""
        away = goal_distance(achieved_goal, desired_goal)
        out = -(away >= self.threshold).astype(np.float32) if self.sparse else -away
        return float(out) if out.ndim == 0 else out

    def compute_terminated(self, achieved_goal: ArrayLike, desired_goal: ArrayLike, info: Any) -> bool:
        """Never: staying at the goal is part of the task."""
        return False

    def compute_truncated(self, achieved_goal: ArrayLike, desired_goal: ArrayLike, info: Any) -> bool:
        """Never here: Gymnasium's time limit does it."""
        return False

    def _babble(self) -> NDArray[np.float64]:
        rest = self.rig.spec.rest
        for _ in range(TRIES):
            wanted = rest + self.goal_spread * (self.np_random.uniform(size=rest.size) - rest)
            command = self._show(wanted)
            if command is not None:
                return command
        raise FaceTwinError("no face was found in any babbled pose", where="reset()", found=f"{TRIES} poses",
                            hint="a larger size, or a smaller goal_spread")  # fmt: skip

    def _show(self, wanted: ArrayLike) -> NDArray[np.float64] | None:
        """Take a pose, look, go home: sets the goal and returns the command sent, or None without a face."""
        self._go(wanted)
        found = self._look()["face_found"]
        command = self._sent.copy()
        if found:
            self.goal = _points(self._landmarks)
        self._home(int(self.np_random.integers(2**31)))
        return command if found else None

    def _observation(self) -> Obs:
        return {
            "observation": self._sent.astype(np.float32),
            "achieved_goal": _points(self._landmarks),
            "desired_goal": self.goal.copy(),
        }

    def _told(self, info: dict[str, Any]) -> dict[str, Any]:
        away = float(goal_distance(_points(self._landmarks), self.goal))
        return {**info, "distance": away, "is_success": away < self.threshold}


def goal_distance(a: ArrayLike, b: ArrayLike) -> NDArray[np.float32]:
    """Mean distance of the 113 points of goals [shape=(..., 226), u] -> float32 (...), u."""
    a, b = np.asarray(a, dtype=np.float32), np.asarray(b, dtype=np.float32)
    if a.shape[-1:] != (GOAL,) or b.shape[-1:] != (GOAL,):
        raise FaceTwinError("not goals", found=f"shapes {a.shape} and {b.shape}", expected=f"(..., {GOAL})")
    apart = (a - b).reshape(*np.broadcast_shapes(a.shape, b.shape)[:-1], GOAL // 2, 2)  # (..., 113, 2)
    return np.asarray(np.linalg.norm(apart, axis=-1).mean(-1), dtype=np.float32)


def _points(landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Goals of faces: (..., 478, 3) -> (..., 226), a copy."""
    xy = landmarks[..., indices("face113"), :2]  # (..., 113, 2)
    return np.ascontiguousarray(xy.reshape(*xy.shape[:-2], GOAL), dtype=np.float32)


def _as_goals(given: ArrayLike, where: str) -> NDArray[np.float32]:
    expected = f"(k, {POINTS}, 3) or (k, {GOAL})"
    try:
        faces = np.asarray(given, dtype=np.float32)
    except (TypeError, ValueError):
        raise UsageError("not landmarks", where=where, found=given, expected=expected) from None
    if faces.ndim == 3 and faces.shape[1:] == (POINTS, 3):
        faces = _points(faces)
    if faces.ndim != 2 or faces.shape[1] != GOAL or not len(faces):
        raise UsageError("not landmarks", where=where, found=f"shape {faces.shape}", expected=expected)
    if not np.isfinite(faces).all() or np.abs(faces).max() > LIMIT:
        raise UsageError("not aligned landmarks", where=where, found=float(np.abs(faces).max()),
                         expected=f"finite, within {LIMIT:g} u", hint="landmarks.align")  # fmt: skip
    return faces
