"""Which clips are worth learning from: the Audio2Landmark report's cleaning (section 2.1.4), and more.

From the report, with its thresholds:

    one face        pictures with no face or several: the video is removed
    bitrate         the 40,000 videos with the highest are taken
    centerness      c = 1/T sum p_t, below 30 degrees        (1)
    shakiness       s = 1/T sum |p_t - p_(t-1)|, below 2     (2)

with p_t the angle in degrees between the frontal vector, out of the tip of the nose, and the camera. As
printed, (2) has no absolute value and telescopes to (p_T - p_0) / T, which a nodding head passes; the text
calls it velocity, so it is taken as speed. p is put on 25 pictures a second first, the rate of the 2 degrees.

Beyond the report: face size, cuts, files that end early, length, and the offset between sound and lips.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetwin.policies.metric_face import Head
from facetwin.twin.errors import UsageError

FPS = 25.0
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Limits:
    """What a clip must satisfy to be kept."""

    missing: float = 0.0
    """Largest share of pictures without a face (where more are allowed they are interpolated)."""
    doubles: float = 0.0
    """Largest share of looks (one each 0.2 s) at which a second face is seen."""
    top: int = 40_000
    """How many videos with the highest bitrates are taken; 0: all."""
    bitrate: float = 0.0
    """Lowest bitrate of the pictures, kbit/s; 0: any."""
    centerness: float = 30.0
    """Largest mean angle between nose and camera, degrees."""
    shakiness: float = 2.0
    """Largest mean change of that angle in 1/25 s, degrees."""
    face: float = 32.0
    """Smallest distance of the outer eye corners (median), px."""
    jump: float = 0.5
    """Largest move of the face between pictures, u in 1/25 s: beyond it the film was cut."""
    decoded: float = 0.9
    """Smallest share of the pictures the file's header promises."""
    seconds: float = 0.4
    """Shortest clip, s."""
    longest: float = 600.0
    """Longest clip, s: it is held in memory."""
    offset: float = 300.0
    """Largest offset between sound and lips, ms, that is corrected."""
    confidence: float = 0.35
    """Least confidence in that offset, 0 to 1: below it the sound may be another one's."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            share = each.name in ("missing", "doubles", "decoded", "confidence")
            if not value >= 0 or (share and value > 1):
                raise UsageError(
                    "no such limit", where=each.name, found=value, expected="0 to 1" if share else "0 or more"
                )


@dataclass(frozen=True)
class Check:
    """One line of the verdict: a fact against a limit."""

    fact: str
    limit: str
    complaint: str
    unit: str = ""
    least: bool = False
    """True: the fact must not be below the limit; False: not above."""

    def fails(self, facts: Mapping[str, Any], limits: Limits) -> str | None:
        """What is wrong, in words, or None; a fact that is not there is not wrong."""
        value, limit = facts.get(self.fact), getattr(limits, self.limit)
        if value is None or (value >= limit if self.least else value <= limit):
            return None
        share = self.unit == "%"
        shown, bound = (f"{value:.1%}", f"{limit:.0%}") if share else (f"{value:.4g}", f"{limit:g}")
        unit = "" if share or not self.unit else " " + self.unit
        return (
            f"{self.complaint}; found {shown}{unit}, expected at {'least' if self.least else 'most'} {bound}"
        )


CHECKS = (
    Check("seconds", "seconds", "too short", "s", least=True),
    Check("seconds", "longest", "too long, cut it into clips", "s"),
    Check("decoded", "decoded", "pictures lack, the file was cut short", "%", least=True),
    Check("bitrate_kbps", "bitrate", "the bitrate is low", "kbit/s", least=True),
    Check("missing", "missing", "pictures without a face", "%"),
    Check("doubles", "doubles", "two faces in it", "%"),
    Check("jump_u", "jump", "the film was cut", "u"),
    Check("eye_distance_px", "face", "the face is small", "px between the eyes", least=True),
    Check("centerness_deg", "centerness", "looks away from the camera", "deg"),
    Check("shakiness_deg", "shakiness", "the head moves too much", "deg a picture"),
)
#: checked only where sound and lips are brought together
SYNC_CHECKS = (
    Check("sync_confidence", "confidence", "the sound does not fit the lips", "confidence", least=True),
    Check("sound_off_ms", "offset", "sound and lips are too far apart", "ms"),
)


def verdict(facts: Mapping[str, Any], limits: Limits, *, sync: bool = True) -> str | None:
    """Why a clip with these facts is dropped, in one line; None: it is kept.

    >>> verdict({"centerness_deg": 41.27, "missing": 0.0}, Limits())
    'looks away from the camera; found 41.27 deg, expected at most 30'
    """
    if facts.get("sound_late_ms") is not None:
        facts = {**facts, "sound_off_ms": abs(facts["sound_late_ms"])}
    checks = CHECKS + SYNC_CHECKS if sync else CHECKS
    return next((why for check in checks if (why := check.fails(facts, limits))), None)


def front_angle(head: Head) -> Doubles:
    """p_t: angle between the directions of nose and camera, degrees [shape=(T,)]; roll is no part of it."""
    return np.degrees(np.arccos(np.clip(head.matrices()[:, 2, 2], -1, 1)))


def centerness(angle: ArrayLike) -> float:
    """Equation (1) of `front_angle` p [shape=(T,), degrees]."""
    return float(np.mean(np.asarray(angle)))


def shakiness(angle: ArrayLike, times: ArrayLike | None = None) -> float:
    """Equation (2): sum of the changes of p over the number of pictures, at 25 a second.

    >>> shakiness([10, 12, 10, 12])
    1.5
    """
    p = np.asarray(angle, np.float64)
    if times is not None and len(p) > 1:
        when = np.asarray(times, np.float64)
        grid = np.arange(round((when[-1] - when[0]) * FPS) + 1) / FPS + when[0]
        p = np.interp(grid, when, p)
    return float(np.abs(np.diff(p)).sum() / len(p))


def largest_jump(head: Head, times: ArrayLike) -> float:
    """Largest move of the face across the picture, or in size, in u within 1/25 s."""
    if len(head) < 2:
        return 0.0
    step = np.maximum(np.diff(np.asarray(times, np.float64)) * FPS, 1.0)
    size = np.minimum(head.scale[1:], head.scale[:-1])
    across = np.linalg.norm(np.diff(head.translation[:, :2], axis=0), axis=1) / size
    return float((np.maximum(across, np.abs(np.diff(head.scale)) / size) / step).max())


@dataclass(frozen=True)
class Smoothing:
    """A window over time: "none", "mean" (the report's moving average) or "savgol" (a local polynomial).

    A mean takes the peaks off (the report, section 4.2, saw the mouth open less); a polynomial takes less.
    """

    kind: str = "none"
    window: int = 5
    order: int = 2

    @classmethod
    def parse(cls, text: str) -> Smoothing:
        """Of "none", "mean:5" or "savgol:7:2" (kind, window in pictures, order of the polynomial).

        >>> Smoothing.parse("savgol:7:3")
        Smoothing(kind='savgol', window=7, order=3)
        """
        kind, *rest = text.split(":")
        try:
            numbers = [int(each) for each in rest]
            known = {"none": 0, "mean": 1, "savgol": 2}[kind]
            if len(numbers) > known:
                raise ValueError
            made = cls(kind, *numbers)
            if made.window < 1 or made.window % 2 == 0 or not 0 <= made.order < max(made.window, 3):
                raise ValueError
        except (ValueError, KeyError):
            raise UsageError(
                "no such smoothing", where="--smooth", found=text,
                expected="none, mean:WINDOW or savgol:WINDOW:ORDER, an odd window larger than the order",
            ) from None  # fmt: skip
        return made

    def __str__(self) -> str:
        numbers = {"none": (), "mean": (self.window,), "savgol": (self.window, self.order)}[self.kind]
        return ":".join([self.kind, *map(str, numbers)])

    def __call__(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Smooth along the first axis; the ends are smoothed with what there is. Shape and type stay."""
        count = len(values)
        if self.kind == "none" or count < 3 or self.window == 1:
            return values
        if self.kind == "savgol":
            from scipy.signal import savgol_filter

            window = min(self.window, count - 1 + count % 2)
            smooth = savgol_filter(values, window, min(self.order, window - 1), axis=0)
            return smooth.astype(values.dtype)
        half = self.window // 2
        total = np.concatenate([np.zeros_like(values[:1], np.float64), np.cumsum(values, 0, np.float64)])
        low = np.maximum(np.arange(count) - half, 0)
        high = np.minimum(np.arange(count) + half + 1, count)
        width = (high - low).reshape(-1, *[1] * (values.ndim - 1))
        return ((total[high] - total[low]) / width).astype(values.dtype)
