"""Speech controllers of different quality, for one question: does the twin rank them as the rig does?

All answer the same wish, displacement of the speech points and the loudness behind it, with commands at 25 a
second. They are meant to differ, from the best there is to a face that does not move. Not a benchmark of
speech: the wish is one model's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetwin.policies.babble import babbler
from facetwin.policies.baselines import late
from facetwin.policies.controller import SpeechController
from facetwin.policies.retarget import INTO_FACE
from facetwin.twin.couplings import Couplings
from facetwin.twin.errors import FaceTwinError

Floats = NDArray[np.float32]

#: names, best first by expectation; five of them are enough for a rank
RIVALS = (
    "inverse and gradient", "one frame late", "low-pass", "half as far", "inverse alone", "nearest pose",
    "amplitude", "frozen",
)  # fmt: skip
#: poses that the nearest one is looked for among
POSES = 2000


def rivals(
    controller: SpeechController, displacement: ArrayLike, loudness: ArrayLike, *, seed: int = 0
) -> dict[str, Floats]:
    """Commands of each rival, float32 [each shape=(T, motors)].

    Parameters
    ----------
    controller : SpeechController
        The one that speaks; `reset` before.
    displacement : float [shape=(T, 63, 2), u]
    loudness : float [shape=(T, 1)]
        Root mean square of the sound, for the amplitude's jaw; its gain is fitted to the controller's own
        answer.
    seed : int
        Of the poses that the nearest is chosen among.
    """
    wish = np.asarray(displacement, np.float32)
    loud = np.asarray(loudness, np.float64).reshape(-1, 1)
    if len(loud) != len(wish):
        raise FaceTwinError("sound and wish do not pair", where="rivals()", found=len(loud),
                            expected=f"{len(wish)} pictures")  # fmt: skip
    spec = controller.spec
    best = controller.commands(wish)
    rest = np.asarray(spec.rest, np.float32)
    target = controller.retarget(wish)
    mouth = np.concatenate([spec.group("jaw"), spec.group("lips")])

    def only_mouth(commands: NDArray[np.floating]) -> Floats:
        out = np.repeat(rest[None], len(commands), 0)
        out[:, mouth] = commands[:, mouth]
        return out

    makers: dict[str, Callable[[], NDArray[np.floating]]] = {
        "inverse and gradient": lambda: best,
        "one frame late": lambda: late(best, 1),
        "low-pass": lambda: _smooth(best, 9),
        "half as far": lambda: rest + 0.5 * (best - rest),
        "inverse alone": lambda: only_mouth(controller.inverse.predict(target)),
        "nearest pose": lambda: only_mouth(_nearest(controller, target, seed)),
        "amplitude": lambda: only_mouth(_amplitude(loud, best)),
        "frozen": lambda: np.repeat(rest[None], len(wish), 0),
    }
    return {name: np.clip(makers[name](), 0, 1).astype(np.float32) for name in RIVALS}


def _smooth(commands: NDArray[np.floating], taps: int) -> NDArray[np.floating]:
    """A running mean, centred, over so many frames; the ends are held."""
    half = taps // 2
    padded = np.concatenate([np.repeat(commands[:1], half, 0), commands, np.repeat(commands[-1:], half, 0)])
    total = np.cumsum(np.concatenate([np.zeros_like(padded[:1]), padded]), axis=0, dtype=np.float64)
    out: NDArray[np.floating] = (total[taps:] - total[:-taps]) / taps
    return out


def _nearest(controller: SpeechController, target: NDArray[np.floating], seed: int) -> NDArray[np.floating]:
    """The babbled pose whose lips and jaw the self-model expects nearest to those wanted."""
    spec, rng = controller.spec, np.random.default_rng(seed)
    couplings = Couplings(spec)
    source = babbler("mixed", spec, rng)
    poses = np.array([next(source) for _ in range(POSES)])
    for k in np.flatnonzero(~couplings.allowed(poses)):
        poses[k] = couplings.project(poses[k])
    mouth = np.concatenate([spec.group("jaw"), spec.group("lips")])
    still = np.repeat(spec.rest[None], POSES, 0)
    still[:, mouth] = poses[:, mouth]
    faces = controller.model.predict(still)[0][:, INTO_FACE].reshape(POSES, -1)
    goal = np.asarray(target)[:, INTO_FACE].reshape(len(target), -1)
    far = (faces**2).sum(1)[None] - 2 * goal @ faces.T  # (T, POSES)
    return still[far.argmin(1)]


def _amplitude(loud: NDArray[np.float64], best: NDArray[np.floating]) -> NDArray[np.floating]:
    """Loudness times the gain, plus a constant, that suit the best answer most."""
    x = np.column_stack([loud, np.ones(len(loud))])
    out: NDArray[np.floating] = x @ np.linalg.lstsq(x, np.asarray(best, np.float64), rcond=None)[0]
    return out
