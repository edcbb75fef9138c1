"""What was recorded of a rig, played again on a simulated one, and looked at by the same tracker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from facetwin.twin.calibration.observed import Observed
from facetwin.twin.spec import RigSpec
from facetwin.twin.tracker import Tracker

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Replayed:
    """Pictures of a replay in which a face was found, K of them.

    Attributes
    ----------
    number : int [shape=(K,)], of the recorded picture
    positions : float64 [shape=(K, n)], where the simulated motors stood
    landmarks : float64 [shape=(K, 478, 3), u]
    turn : float64 [shape=(K, 3), rad]
    pictures : dict of number -> uint8 [shape=(H, W, 3)], those that were to be kept
    """

    number: NDArray[np.intp]
    positions: Floats
    landmarks: Floats
    turn: Floats
    pictures: dict[int, NDArray[np.uint8]] = field(default_factory=dict)


def replay(
    spec: RigSpec,
    data: Observed,
    numbers: NDArray[np.intp],
    tracker: Tracker,
    *,
    size: int,
    unit: float,
    tell: Callable[[int], object] = lambda _: None,
    keep: NDArray[np.intp] | tuple[int, ...] = (),
) -> Replayed:
    """Send `spec`'s simulated rig what was sent, and look at it when the pictures `numbers` were taken.

    Its camera has no delay and no rate here: it looks exactly then.
    """
    from facetwin.hardware.sim import SimRig
    from facetwin.twin.landmarks import align, head_turn

    prompt = spec.with_({"camera.mirror.delay": 0.0, "camera.mirror.rate": 0.0})
    found: list[int] = []
    positions, landmarks, turns = [], [], []
    pictures: dict[int, NDArray[np.uint8]] = {}
    row = 0
    with SimRig(prompt, size=size) as rig:
        rig.activate()
        zero = rig.clock.now() - data.time[0] + 1.0
        rig.write(data.sent[0])
        for number in np.sort(numbers):
            when = data.picture_time[number]
            while row < len(data.time) and data.time[row] <= when:
                rig.clock.sleep_until(zero + data.time[row])
                rig.write(np.clip(data.sent[row], 0, 1))
                row += 1
            rig.clock.sleep_until(zero + when)
            frame = rig.capture()
            points = tracker.detect(frame.image, mirrored=frame.mirrored)
            tell(1)
            if number in keep:
                pictures[int(number)] = np.array(frame.image)
            if points is None:
                continue
            assert frame.truth is not None
            found.append(int(number))
            positions.append(frame.truth["position"])
            landmarks.append(align(points, unit=unit))
            turns.append(head_turn(points))
    k = len(found)
    return Replayed(
        np.array(found, np.intp), np.array(positions).reshape(k, spec.size),
        np.array(landmarks, np.float64).reshape(k, 478, 3), np.array(turns, np.float64).reshape(k, 3),
        pictures,
    )  # fmt: skip


def rest_pixels(
    spec: RigSpec, tracker: Tracker, *, size: int, pictures: int = 6
) -> tuple[Floats, NDArray[np.uint8]]:
    """Mean landmarks of the simulated rest face, float64 [shape=(478, 3), px, flipped back]; a picture."""
    from facetwin.hardware.sim import SimRig
    from facetwin.twin.errors import FaceTwinError

    seen = []
    with SimRig(spec.with_({"camera.mirror.rate": 50.0}), size=size) as rig:
        rig.activate()
        for _ in range(pictures):
            rig.clock.sleep(0.1)
            frame = rig.capture()
            points = tracker.detect(frame.image, mirrored=frame.mirrored)
            if points is not None:
                seen.append(points)
    if not seen:
        raise FaceTwinError("no face in the simulated mirror", where=spec.name)
    return np.mean(seen, axis=0, dtype=np.float64), frame.image
