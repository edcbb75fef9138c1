"""``facetwin/MirrorBabble-v0``: move the face, look at it in the mirror."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from facetwin.envs.mirror import LIMIT, MirrorEnv, Obs, motor_table
from facetwin.hardware.rig import Rig
from facetwin.twin.errors import UsageError
from facetwin.twin.landmarks import POINTS, indices

REWARDS = (None, "novelty")
MEMORY = 4096  # poses that novelty remembers


@motor_table("face26")
class MirrorBabble(MirrorEnv):
    """Mirror babbling: a command goes in; what the mirror shows comes out. There is no task.

    Action space
    ------------
    ``Box(0, 1, (26,), float32)``, a command: for each motor 0 = lower, 1 = upper. Another rig has its own
    table (``env.unwrapped.rig.spec.table()``). The motors of the default rig, face26:

    {motors}

    Observation space
    -----------------
    A dict:

    | key | space | meaning |
    |--|--|--|
    | image | Box(0, 255, (H, W, 3), uint8) | the mirror as the camera sees it: left and right changed over |
    | landmarks | Box(-4, 4, (478, 3), float32) | aligned landmarks, u, face frame, anatomical sides |
    | commands | Box(0, 1, (26,), float32) | the command really sent, behind the safety layer |

    Without a face in the picture `landmarks` are the last ones of the episode (zeros before any).

    Info
    ----
    ``face_found`` (bool); ``sent`` (float64, the command sent); ``safety``: what the safety layer changed in
    the last write of the step, rule -> {motor: (before, after)}, empty if nothing (rules ``speed`` and
    ``acceleration``: the face was not there yet); ``time`` of the picture (s, rig's clock); ``gap_mm``, the
    lips' gap by geometry, on rigs that know it.

    Reward
    ------
    0. With ``reward="novelty"``: mean distance (u) of the 113 points, x and y, from the nearest of the last
    4096 poses seen in the episode, its first included; 0 where no face was found.

    Episodes
    --------
    Start at rest, with camera noise of its own; never terminate; are truncated after 200 steps
    (``max_episode_steps`` of `gymnasium.make`). Same seed and same actions give the same bits on a simulated
    rig. ``reset(options={"command": c})`` goes to pose ``c`` first; ``{"randomise": True}`` draws another
    body for this episode from the ranges of the rig file (servos, skin, camera, light), ``["servo.*",
    "camera.*"]`` some of it, ``{"material.young": (8e4, 1e5)}`` from ranges of one's own; ``info["drawn"]``
    tells it (see `facetwin.twin.randomise.draw`). Without it the body is the rig file's again.

    Parameters
    ----------
    reward : None or "novelty"
    others
        See `facetwin.envs.mirror.MirrorEnv`.

    Errors: an action of another shape, or with NaN or inf, raises `FaceTwinError` and moves nothing; one
    out of range is clipped and told in ``info["safety"]["range"]``.

    >>> import gymnasium
    >>> env = gymnasium.make("facetwin.envs:facetwin/MirrorBabble-v0", rig="sim:?solver=linear", size=128)
    >>> env.observation_space["image"].shape, env.action_space.shape
    ((128, 128, 3), (26,))
    >>> env.close()
    """

    def __init__(
        self,
        rig: str | Rig = "sim:",
        *,
        size: int | tuple[int, int] | None = None,
        settle: float = 0.5,
        reward: str | None = None,
        landmarks: str = "tracker",
        render_mode: str | None = None,
        rig_options: Mapping[str, Any] | None = None,
    ) -> None:
        if reward not in REWARDS:
            raise UsageError("unknown reward", where="MirrorBabble", found=reward, expected="None or novelty")
        super().__init__(
            rig,
            size=size,
            settle=settle,
            landmarks=landmarks,
            render_mode=render_mode,
            rig_options=rig_options,
        )  # fmt: skip
        self.observation_space = spaces.Dict(
            {
                "image": spaces.Box(0, 255, (self.height, self.width, 3), np.uint8),
                "landmarks": spaces.Box(-LIMIT, LIMIT, (POINTS, 3), np.float32),
                "commands": spaces.Box(0.0, 1.0, (self.rig.spec.size,), np.float32),
            }
        )
        self._novelty = reward == "novelty"
        self._known: deque[NDArray[np.float32]] = deque(maxlen=MEMORY)

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Any]]:
        """Begin an episode at rest, or at ``options["command"]`` (float [shape=(n,)]).

        ``options["randomise"]`` draws another body, on simulated rigs; ``info["drawn"]`` says which.
        """
        asked = self._begin(seed, options)
        if "command" in asked:
            self._go(asked["command"])
        self._known.clear()
        info = self._look()
        if self._drawn:
            info["drawn"] = dict(self._drawn)
        self._new(info["face_found"])
        return self._observation(), info

    def step(self, action: NDArray[np.float32]) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Send a command for `settle` seconds, then look."""
        self._act(action)
        info = self._look()
        return self._observation(), self._new(info["face_found"]), False, False, info

    def _observation(self) -> Obs:
        assert self._image is not None
        return {
            "image": self._image.copy(),
            "landmarks": self._landmarks.copy(),
            "commands": self._sent.astype(np.float32),
        }

    def _new(self, found: bool) -> float:
        if not self._novelty or not found:
            return 0.0
        points = self._landmarks[indices("face113"), :2]  # (113, 2)
        away = 0.0
        if self._known:
            known = np.stack(list(self._known))  # (k, 113, 2)
            away = float(np.linalg.norm(known - points, axis=-1).mean(-1).min())
        self._known.append(points)
        return away
