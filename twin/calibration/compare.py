"""How far a twin and a rig are apart, after both have played the same `probes.program`.

Motor by motor: latency, lag, gain, dead band, play, and what is left when delay and gain are taken out.
From the servos' own sensors where there are any, and from the mirror always: the twin, whose motors are
known, teaches a decoder (landmarks → where the motor stands), which then reads the rig. Landmarks as such
are compared by group, in u, as displacement from each one's own rest face.

Time is told apart where it can be: with sensors, a motor's latency is its sensor's, and what the mirror adds
is the camera's; without, only their sum is known, and it is called so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from facetwin.twin.calibration.face_map import points
from facetwin.twin.calibration.mirror_fit import alike, averaged, own_error, refit, without
from facetwin.twin.calibration.observed import Observed
from facetwin.twin.calibration.probes import Program, Turn
from facetwin.twin.calibration.servo_trace import TICK, ServoFit, fit_servo
from facetwin.twin.calibration.sides import AFTER, Side, told, window
from facetwin.twin.calibration.traces import LATENCY, Playback, table_of
from facetwin.twin.errors import UsageError
from facetwin.twin.landmarks import indices

Floats = NDArray[np.float64]

#: groups of landmarks that are compared
GROUPS: dict[str, tuple[str, ...]] = {
    "lips": ("lips40",), "jaw": ("jaw11",), "cheeks": ("cheeks12",), "eyes": ("right_eye16", "left_eye16"),
    "irises": ("right_iris5", "left_iris5"), "brows": ("right_brow10", "left_brow10"),
}  # fmt: skip
#: most directions of landmark motion that a decoder uses
DIRECTIONS = 25
#: correlation of a decoder with the twin's own motor, below which the mirror does not show the motor
CLEAR = 0.95
#: s: delays of the rig behind the twin that are tried
DELAYS = np.arange(-0.06, 0.2001, 0.002)
#: latencies by the mirror with a larger standard deviation (s) say nothing of the camera
SURE = 0.02


@dataclass(frozen=True)
class MotorResult:
    """One motor of both; None where it cannot be known.

    Attributes
    ----------
    name : str
    sensor, twin_sensor : ServoFit or None, by the servos' own sensors
    mirror, twin_mirror : ServoFit or None, by landmarks
    clear : float, how well the mirror shows the motor: correlation of the decoder on the twin
    delay : float, s, by how much the rig's trace is behind the twin's, whatever the cause
    gain : float, motion of the rig for motion of the twin: of the shaft, where by the sensor
    residual, raw : float, commands
        Root mean square between both traces with and without delay and gain taken out.
    by : "sensor" or "mirror", what delay, gain and residuals are from
    note : str
    """

    name: str
    sensor: ServoFit | None
    twin_sensor: ServoFit | None
    mirror: ServoFit | None
    twin_mirror: ServoFit | None
    clear: float
    delay: float
    gain: float
    residual: float
    raw: float
    by: str
    note: str = ""

    @property
    def best(self) -> ServoFit | None:
        """The fit that is believed: the sensor's, else the mirror's."""
        return self.sensor or self.mirror

    @property
    def face_gain(self) -> float | None:
        """Motion of the face for a command, by the mirror, the twin's being 1: horn, linkage and skin."""
        if self.mirror is None or self.twin_mirror is None or not self.twin_mirror.gain:
            return None
        return self.mirror.gain / self.twin_mirror.gain

    @property
    def twin_best(self) -> ServoFit | None:
        """The twin's, seen in the same way."""
        return self.twin_sensor if self.sensor else self.twin_mirror


@dataclass(frozen=True)
class GroupResult:
    """One group of landmarks: mean distance of twin and rig in u, as played and with the delay taken out."""

    name: str
    raw: float
    aligned: float
    scatter: float  #: of the rig's landmarks at rest
    motion: float  #: mean displacement of the rig's landmarks from rest


@dataclass(frozen=True)
class Comparison:
    """All of it.

    Attributes
    ----------
    motors, groups : results
    camera : float or None, s
        By how much pictures are later than their times say; None: it is in the motors' latencies.
    camera_spread : float or None, s
    delay : float, s, median over the motors of the rig behind the twin in the mirror
    time, rig_curves, twin_curves : float64 [shape=(F,), s], [shape=(F, G)]
        Mean displacement of each group in the clip, u, the twin's with the delay.
    distance : float64 [shape=(F,)], u, over all groups, at every picture, delay taken out
    """

    motors: list[MotorResult]
    groups: list[GroupResult]
    camera: float | None
    camera_spread: float | None
    delay: float
    time: Floats
    rig_curves: Floats
    twin_curves: Floats
    distance: Floats
    notes: list[str]


def compare(twin: Side, rig: Side, played: Program, again: Sequence[Side] = ()) -> Comparison:
    """Compare two recordings of one program; both tables have the same motors.

    Parameters
    ----------
    twin, rig : Side
    played : Program
    again : sequence of Side, optional
        More recordings of the same turns on the same rig: latencies that only the mirror tells are averaged
        over all. They need no more than the turns.

    Raises
    ------
    UsageError
        Nothing to compare: no camera and no sensors, or too short.
    """
    if twin.spec.names != rig.spec.names:
        raise UsageError(
            "another rig's motors", where="compare", found=rig.spec.name, expected=twin.spec.name
        )
    for name, side in (("twin", twin), *(("rig", side) for side in (rig, *again))):
        until = played.turns[-1].end if played.turns else played.seconds
        if len(side.data.time) < 2 or side.data.time[-1] < until - 0.1:
            found = f"{side.data.time[-1]:.1f} s" if len(side.data.time) else "nothing"
            raise UsageError(
                "too short to compare", where=f"compare: {name}", found=found,
                expected=f"{until:.1f} s with every motor's turn", hint="play it again",
            )  # fmt: skip
    looks = [side.data.found().sum() >= 25 for side in (twin, rig)]
    if not all(looks) and not (twin.measures and rig.measures):
        raise UsageError("nothing shows where the motors stand", where="compare",
                         found="no pictures of a face, no servo readings",
                         hint="a camera, or servos that answer")  # fmt: skip
    notes: list[str] = []
    motors: list[MotorResult] = []
    for turn in played.turns:
        motors += _motors(twin, rig, turn, all(looks), notes)
    motors = _by_mirror_alone(twin, [rig, *again], played, motors)
    order = {name: k for k, name in enumerate(rig.spec.names)}
    motors.sort(key=lambda m: order[m.name])
    camera, spread = _camera(motors)
    if camera is None and rig.measures:
        notes.append("camera: its delay is not known, the mirror shows no motor sharply enough")
    elif camera is None:
        notes.append("latency: servo and camera together, as the servos do not say where they stand")
    mirrored = np.array([m.delay for m in motors if m.by == "mirror" and m.clear >= CLEAR])
    if not len(mirrored) and camera is not None:
        mirrored = np.array([m.delay for m in motors]) + camera
    delay = float(np.median(mirrored)) if len(mirrored) else 0.0
    groups, curves = _groups(twin, rig, played, delay) if all(looks) else ([], None)
    if curves is None:
        none = np.zeros((0, len(GROUPS)))
        curves = (np.zeros(0), none, none, np.zeros(0))
    return Comparison(motors, groups, camera, spread, delay, *curves, notes)


# --- motors ---------------------------------------------------------------------------------------------


def features(data: Observed) -> Floats:
    """What a decoder sees of each picture: landmarks' x and y in u, head's turn in rad, [shape=(F, D)]."""
    at = points()
    flat = data.landmarks[:, at, :2].reshape(len(data.landmarks), -1)
    return np.concatenate([flat, data.turn], 1)


def _motors(twin: Side, rig: Side, turn: Turn, look: bool, notes: list[str]) -> list[MotorResult]:
    decoded = _decode(twin, rig, turn) if look else {}
    out = []
    for motor in turn.motors:
        name, note = rig.spec.names[motor], ""
        fits: dict[str, ServoFit | None] = dict.fromkeys(("sensor", "twin_sensor", "mirror", "twin_mirror"))
        clear, seen = decoded.get(motor, (0.0, None))
        try:
            if rig.measures and twin.measures:
                fits["sensor"], fits["twin_sensor"] = (_by_sensor(s, motor, turn) for s in (rig, twin))
            if seen is not None and clear >= CLEAR:
                for key, side, (at, trace) in (("mirror", rig, seen[1]), ("twin_mirror", twin, seen[0])):
                    own = fits["sensor" if key == "mirror" else "twin_sensor"]
                    fits[key] = _by_mirror(side, motor, turn, at, trace, own)
        except UsageError as why:
            note = str(why)
        if rig.measures and twin.measures:
            by, (a, b) = "sensor", [_readings(s, motor, turn) for s in (twin, rig)]
        elif seen is not None:
            by, (a, b) = "mirror", seen
        else:
            notes.append(f"{name}: nothing shows it")
            continue
        if by == "mirror" and clear < CLEAR:
            note = note or f"hardly seen in the mirror (r = {clear:.2f} on the twin)"
        delay, gain, residual, raw = align_traces(a, b)
        out.append(MotorResult(name, fits["sensor"], fits["twin_sensor"], fits["mirror"], fits["twin_mirror"],
                               clear, delay, gain, residual, raw, by, note))  # fmt: skip
    return out


def _readings(side: Side, motor: int, turn: Turn) -> tuple[Floats, Floats]:
    time = side.data.time if side.read_time is None else side.read_time
    rows = window(time, turn) & np.isfinite(side.data.measured[:, motor])
    return time[rows], side.data.measured[rows, motor]


def _by_sensor(side: Side, motor: int, turn: Turn) -> ServoFit:
    return fit_servo(*told(side, motor, turn, *_readings(side, motor, turn)), mirror=False)


def _by_mirror(
    side: Side, motor: int, turn: Turn, at: Floats, seen: Floats, own: ServoFit | None
) -> ServoFit:
    given = None if own is None else own.values
    return fit_servo(*told(side, motor, turn, at, seen), mirror=True, given=given)


def _by_mirror_alone(
    twin: Side, rigs: Sequence[Side], played: Program, motors: list[MotorResult]
) -> list[MotorResult]:
    """Motors that only the mirror shows, fitted again by all that is known of them together."""
    number = rigs[0].spec.index
    own = {number(m.name): m.twin_mirror for m in motors if m.twin_mirror and m.mirror and not m.sensor}
    error = own_error(twin, played, own)
    found: dict[int, list[ServoFit]] = {}
    for k, rig in enumerate(rigs):
        results = motors if k == 0 else [m for t in played.turns for m in _motors(twin, rig, t, True, [])]
        alone = {number(m.name): m.mirror for m in results if m.mirror and not m.sensor}
        for i, fit in refit(rig, played, alone).items():
            if i in error:
                found.setdefault(i, []).append(without(fit, error[i]))
    best = alike(rigs[0].spec, {i: averaged(fits) for i, fits in found.items()})
    return [replace(m, mirror=best[i]) if (i := number(m.name)) in best else m for m in motors]


def _decode(
    twin: Side, rig: Side, turn: Turn
) -> dict[int, tuple[float, tuple[tuple[Floats, Floats], tuple[Floats, Floats]]]]:
    """Where each motor of a turn seems to stand, by the mirror: {motor: (clear, (twin, rig))} as traces.

    Ridge regression in the directions in which the twin's landmarks move, punished by their scatter at rest.
    """
    times, seen = [], []
    for side in (twin, rig):
        rows = window(side.data.picture_time, turn) & side.data.found()
        shown = features(side.data)[rows]
        times.append(side.data.picture_time[rows])
        seen.append(shown - (np.median(shown[:5], axis=0) if len(shown) else 0.0))
    if min(map(len, times)) < 25:
        return {}
    rows = window(twin.data.time, turn)
    playback = Playback(twin.spec, twin.data.time[rows], twin.data.sent[rows], TICK)
    table = table_of(twin.spec)
    # directions that move by more than the tracker's scatter
    _, size, ways = np.linalg.svd(seen[0] - seen[0].mean(0), full_matrices=False)
    ways = ways[: min(DIRECTIONS, len(size) // 4)]
    x, y = seen[0] @ ways.T, seen[1] @ ways.T
    noise = max(_scatter(twin), _scatter(rig))
    out = {}
    for motor in turn.motors:
        place = playback.at(playback.play(motor, table[motor : motor + 1])[1], times[0])[0]
        goal = place - place[:5].mean()
        penalty = len(x) * noise**2 * np.eye(x.shape[1])
        way = np.linalg.solve(x.T @ x + penalty, x.T @ goal)
        own, other = x @ way, y @ way
        clear = float(np.corrcoef(own, goal)[0, 1]) if own.std() > 0 else 0.0
        base = place[:5].mean()
        out[motor] = (clear, ((times[0], own + base), (times[1], other + base)))
    return out


def _scatter(side: Side) -> float:
    """Standard deviation of a landmark's coordinate from picture to picture while nothing moves, u."""
    still = side.data.found() & (side.data.picture_time < 0.9)
    shown = features(side.data)[still]
    return float(shown.std(0).mean()) if len(shown) >= 4 else 0.003


def align_traces(
    twin: tuple[Floats, Floats], rig: tuple[Floats, Floats]
) -> tuple[float, float, float, float]:
    """Delay (s) and gain of the rig's trace against the twin's, rms of what is left, and without either.

    Each trace is times (s) and places. The twin's is shifted, scaled and offset to fit; the delay is the
    best of `DELAYS`, made finer by a parabola.

    >>> t = np.arange(0, 3, 0.02); far = np.arange(0, 3, 0.04)
    >>> delay, gain, left, raw = align_traces((t, np.sin(3 * t)), (far, 0.8 * np.sin(3 * (far - 0.03))))
    >>> round(delay, 3), round(gain, 2), left < 0.01
    (0.03, 0.8, True)
    """
    (ta, a), (tb, b) = twin, rig

    def fit(delay: float) -> tuple[float, float]:
        x = np.interp(tb - delay, ta, a)
        inside = (tb - delay >= ta[0]) & (tb - delay <= ta[-1])
        x, y = x[inside] - x[inside].mean(), b[inside] - b[inside].mean()
        gain = float(x @ y / max(x @ x, 1e-12))
        return float(((y - gain * x) ** 2).mean()), gain

    costs = np.array([fit(d)[0] for d in DELAYS])
    k = int(costs.argmin())
    delay = float(DELAYS[k])
    if 0 < k < len(DELAYS) - 1:
        left, here, right = costs[k - 1 : k + 2]
        bend = left - 2 * here + right
        if bend > 0:
            delay += 0.5 * (left - right) / bend * float(DELAYS[1] - DELAYS[0])
    cost, gain = fit(delay)
    raw = np.interp(tb, ta, a) - b
    return delay, gain, float(np.sqrt(cost)), float(np.sqrt(((raw - np.median(raw)) ** 2).mean()))


def _camera(motors: list[MotorResult]) -> tuple[float | None, float | None]:
    """Mirror's latency less the sensor's, weighted mean over the motors that show it; its spread."""
    late, weight = [], []
    for m in motors:
        if m.sensor is None or m.mirror is None:
            continue
        sd = float(np.hypot(m.sensor.spread[LATENCY], m.mirror.spread[LATENCY]))
        if sd < SURE:
            late.append(m.mirror.latency - m.sensor.latency)
            weight.append(sd**-2)
    if len(late) < 2:
        return (late[0], weight[0] ** -0.5) if late else (None, None)
    off = np.array(late) - np.median(late)
    keep = np.abs(off) < max(3 * 1.4826 * float(np.median(np.abs(off))), 0.004)
    w, x = np.array(weight)[keep], np.array(late)[keep]
    mean = float((w * x).sum() / w.sum())
    spread = float(np.sqrt((w * (x - mean) ** 2).sum() / w.sum() / max(len(x) - 1, 1)))
    return mean, max(spread, float(w.sum() ** -0.5))


# --- landmarks --------------------------------------------------------------------------------------------


def _groups(
    twin: Side, rig: Side, played: Program, delay: float
) -> tuple[list[GroupResult], tuple[Floats, Floats, Floats, Floats]]:
    shown = [_displaced(side) for side in (twin, rig)]
    (ta, a), (tb, b) = shown
    ends = (ta[0], ta[-1])
    inside = (tb - max(delay, 0) >= ends[0]) & (tb - min(delay, 0) <= ends[1]) & (tb >= ends[0])
    tb, b = tb[inside], b[inside]
    raw, aligned = _at(ta, a, tb), _at(ta, a, tb - delay)
    still = tb < 0.9
    groups, apart = [], []
    for name, sets in GROUPS.items():
        at = np.concatenate([indices(s) for s in sets])
        far = np.linalg.norm(aligned[:, at] - b[:, at], axis=-1).mean(1)
        apart.append(far)
        rest = b[still][:, at] if still.sum() > 2 else b[:3, at]
        groups.append(GroupResult(
            name, float(np.linalg.norm(raw[:, at] - b[:, at], axis=-1).mean()), float(far.mean()),
            float(np.linalg.norm(rest - rest.mean(0), axis=-1).mean()),
            float(np.linalg.norm(b[:, at], axis=-1).mean()),
        ))  # fmt: skip
    start, end = played.clip if played.clip[1] > played.clip[0] else (0.0, played.seconds)
    clip = (tb >= start) & (tb < end + AFTER)
    curves = []
    for face in (b, aligned):
        each = [
            np.linalg.norm(face[clip][:, np.concatenate([indices(s) for s in sets])], axis=-1).mean(1)
            for sets in GROUPS.values()
        ]
        curves.append(np.stack(each, 1))
    # the mean over groups, so that forty lip points do not outvote two irises
    return groups, (tb[clip], curves[0], curves[1], np.stack(apart, 1).mean(1)[clip])


def _displaced(side: Side) -> tuple[Floats, Floats]:
    found = side.data.found()
    time, seen = side.data.picture_time[found], side.data.landmarks[found][..., :2]
    still = time < 0.9
    rest = seen[still] if still.any() else seen[:3]
    return time, seen - np.median(rest, axis=0)


def _at(time: Floats, faces: Floats, at: Floats) -> Floats:
    """Faces between pictures, by interpolation, [shape=(len(at), P, 2)]."""
    place = np.clip(np.interp(at, time, np.arange(len(time))), 0, len(time) - 1.000001)
    low = place.astype(np.intp)
    share = (place - low)[:, None, None]
    out: Floats = (1 - share) * faces[low] + share * faces[low + 1]
    return out
