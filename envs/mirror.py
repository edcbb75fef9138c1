"""What all environments share: a face before its mirror, moved and looked at. Knows only `Rig`."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from facetwin.hardware.names import load_driver, make_rig, parse_name
from facetwin.hardware.rig import CLOSED, Floats, Frame, Rig
from facetwin.hardware.safety import SafetyLayer
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.landmarks import POINTS, align, fit_unit
from facetwin.twin.randomise import draw
from facetwin.twin.spec import load_rig
from facetwin.twin.tracker import Tracker

TICK = 0.02  # s between two writes of one step: the safety layer lets motors go only so far in one
ARRIVE = 5.0  # s, longest travel to a pose that `reset` is asked for
LIMIT = 4.0  # u, farther than any landmark can be
LOOKS = 5  # pictures of the face at rest that its unit is taken from

LOOKERS = ("tracker", "geometry")

Pixels = NDArray[np.uint8]
Obs = dict[str, NDArray[Any]]
C = TypeVar("C", bound=type)


class MirrorEnv(gymnasium.Env[Obs, NDArray[np.float32]]):
    """A rig before its mirror; not an environment yet: sub-classes say what is observed and rewarded.

    Parameters
    ----------
    rig : str or Rig
        A name as `facetwin.hardware.names.open_rig` takes it, ``"sim:"``, ``"sim:?solver=linear"``,
        ``"maestro:/dev/ttyACM0"``, or a rig. A rig without a safety layer gets one. A rig that was given
        is released by `close`, not closed: whoever opened it closes it.
    size : int or (width, height), px, optional
        Of the pictures; the camera's own by default. A camera of another size is cropped to the shape and
        scaled; landmarks are found in its own picture.
    settle : float, s, at least 0.02
        Time on the rig's clock that a step lasts: the command is written every 20 ms, then the mirror is
        looked at. 0.5 brings a face26 from any pose to within .02 of any other; 0.04 is control at 25 Hz.
    landmarks : "tracker" or "geometry"
        What landmarks are: what FaceMesh sees in the picture, or where the points are on a simulated face.
        The latter are cheap, exact and always found; a policy that learns on them has seen no tracker yet.
    render_mode : "rgb_array" or None
    rig_options : mapping, optional
        Options of the driver, for a rig given by name, e.g. ``{"solver": "linear"}``.

    Attributes
    ----------
    rig : SafetyLayer
        The rig behind its safety layer; closed until the first `reset`.
    unit : float
        See `facetwin.twin.landmarks.align`; measured on the face at rest at the first `reset`, and at the
        beginning of each randomised episode.

    Raises
    ------
    UsageError
        Unknown rig, option or size.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 2}  # noqa: RUF012
    #: options that `reset` takes
    OPTIONS: tuple[str, ...] = ("command", "randomise")

    def __init__(
        self,
        rig: str | Rig = "sim:",
        *,
        size: int | tuple[int, int] | None = None,
        settle: float = 0.5,
        landmarks: str = "tracker",
        render_mode: str | None = None,
        rig_options: Mapping[str, Any] | None = None,
    ) -> None:
        where = type(self).__name__
        if landmarks not in LOOKERS:
            raise UsageError(
                "unknown landmarks", where=where, found=landmarks, expected="tracker or geometry"
            )
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise UsageError("unknown render mode", where=where, found=render_mode, expected="rgb_array")
        number = isinstance(settle, (int, float, np.number)) and not isinstance(settle, bool)
        if not number or not TICK <= settle <= 60:
            raise UsageError("bad settle", where=where, found=settle, expected="0.02 to 60 s")
        wanted = _checked_size(size, where)
        self._owned = not isinstance(rig, Rig)
        self.rig = _rig_of(rig, wanted, dict(rig_options or {}), where)
        camera = self.rig.capabilities.camera
        if camera is None:
            raise UsageError(
                "this rig has no camera", where=where, found=str(rig), hint="a mirror needs a camera"
            )
        if landmarks == "geometry" and not self.rig.capabilities.truth:
            raise UsageError(
                "only a simulated rig knows its landmarks", where=where, found=str(rig), expected="sim:",
                hint='landmarks="tracker"',
            )  # fmt: skip
        self._by_geometry = landmarks == "geometry"
        self._body: Any = None  # whose landmarks these are: (Kinematics, GeometricLandmarks)
        self.width, self.height = wanted or (camera[1], camera[0])
        self.settle = float(settle)
        self.render_mode = render_mode
        self.metadata = {**self.metadata, "render_fps": max(1, round(1 / self.settle))}
        n = self.rig.spec.size
        self.action_space = spaces.Box(0.0, 1.0, (n,), np.float32)
        self.unit: float | None = None
        self._nominal: float | None = None  # unit of the rig file's own face
        self._drawn: dict[str, float] = {}
        self._tracker: Tracker | None = None
        self._closed = False
        self._image: Pixels | None = None
        self._landmarks = np.zeros((POINTS, 3), np.float32)
        self._sent = self.rig.spec.rest.copy()
        self._changed: dict[str, dict[str, tuple[float, float]]] = {}

    # --- Gymnasium ---------------------------------------------------------------------------------

    def render(self) -> Pixels | None:
        """The last picture, uint8 [shape=(height, width, 3)], as the mirror shows it; None without mode."""
        if self.render_mode is None:
            return None
        if self._image is None:
            raise FaceTwinError("nothing was seen yet", where="render()", hint="reset() first")
        return self._image.copy()

    def close(self) -> None:
        """Release the face and free camera and tracker; closing twice is fine."""
        if self._closed:
            return
        self._closed = True
        tracker, self._tracker = self._tracker, None
        try:
            if tracker is not None:
                tracker.close()
        finally:
            if self._owned:
                self.rig.close()
            else:
                self.rig.release()

    # --- for sub-classes -----------------------------------------------------------------------------

    def _begin(self, seed: int | None, options: Mapping[str, Any] | None) -> dict[str, Any]:
        """Seed, bring the face to rest, measure its unit once; returns the options, checked."""
        asked = dict(options or {})
        for key in asked:
            if key not in self.OPTIONS:
                close = difflib.get_close_matches(str(key), self.OPTIONS, 1)
                raise UsageError("unknown option", where="reset()", found=key,
                                 expected="one of " + ", ".join(self.OPTIONS),
                                 hint=f"did you mean {close[0]}?" if close else None)  # fmt: skip
        if "command" in asked:
            asked["command"] = self._checked_command(asked["command"], "reset(): command")
        if self._closed:
            raise FaceTwinError("the environment is closed", where="reset()", hint="make a new one")
        super().reset(seed=seed)
        if self.rig.status.state == CLOSED:
            self.rig.open()
        self.rig.activate()
        if not self._by_geometry:
            self._tracker = self._tracker or Tracker()
        # The unit is measured from the same noise always, or the first episode's seed would show in others.
        if self._become(asked.get("randomise")):
            self._home(0)
            self.unit = self._measured_unit()
        else:
            if self._nominal is None:
                self._home(0)
                self._nominal = self._measured_unit()
            self.unit = self._nominal
        self._home(int(self.np_random.integers(2**31)))
        return asked

    def _become(self, which: Any) -> dict[str, float]:
        """Draw the body of this episode, the rig file's own without a choice; returns what was drawn."""
        simulated = _inner(self.rig)
        if which is None or which is False:
            if self._drawn:
                simulated.become(None)  # the rig file's own
            self._drawn = {}
        elif not hasattr(simulated, "become"):
            raise UsageError("this rig cannot be randomised", where="reset(): randomise",
                             found=type(simulated).__name__, hint="a simulated rig, sim:")  # fmt: skip
        else:
            body, drawn = draw(self.rig.spec, self.np_random, which)
            simulated.become(body)
            self._drawn = drawn
        return self._drawn

    def _home(self, seed: int) -> None:
        self.rig.home(seed)
        self._sent, self._changed = self.rig.spec.rest.copy(), {}
        self._landmarks = np.zeros((POINTS, 3), np.float32)
        if not self.rig.capabilities.simulated:  # a picture of the end of the travel, not of its middle
            self._travel(self.rig.spec.rest, self.settle)

    def _travel(self, command: ArrayLike, duration: float) -> None:
        """Write a command for a while, in time with the rig's clock."""
        clock = self.rig.clock
        start, steps = clock.now(), max(1, round(duration / TICK))
        for k in range(steps):
            self._sent = self.rig.write(command)
            clock.sleep_until(start + (k + 1) * duration / steps)
        self._changed = {rule: dict(motors) for rule, motors in self.rig.last_change.items()}

    def _go(self, command: ArrayLike) -> None:
        """Go to a pose, as near as the safety layer lets, and settle there."""
        end = self.rig.clock.now() + ARRIVE
        while self.rig.clock.now() < end:
            before = self._sent
            self._travel(command, TICK)
            if np.array_equal(before, self._sent):
                break
        self._travel(command, self.settle)

    def _act(self, action: ArrayLike) -> None:
        """One step's motion; raises `FaceTwinError` in one line for what is no command."""
        if self._closed or self.unit is None:
            what = "the environment is closed" if self._closed else "no episode has begun"
            raise FaceTwinError(what, where="step()", hint="reset() first" if not self._closed else "make it")
        self._travel(self._checked_command(action, "step(): action"), self.settle)

    def _look(self) -> dict[str, Any]:
        """Look into the mirror; returns the info, and keeps picture and landmarks."""
        frame, points = self._seen()
        if points is not None:
            self._landmarks = np.clip(align(points, unit=self.unit), -LIMIT, LIMIT)  # (478, 3), u
        self._image = _fitted(frame.image, self.width, self.height)
        info: dict[str, Any] = {
            "face_found": points is not None,
            "sent": self._sent.copy(),
            "safety": self._changed,
            "time": float(frame.time),
        }
        if frame.truth is not None and "gap_mm" in frame.truth:
            info["gap_mm"] = float(frame.truth["gap_mm"])
        return info

    def _seen(self) -> tuple[Frame, NDArray[np.float32] | None]:
        frame = self.rig.capture()
        if self._tracker is not None:
            return frame, self._tracker.detect(frame.image, mirrored=frame.mirrored)
        return frame, self._known_points(frame)

    def _known_points(self, frame: Frame) -> NDArray[np.float32]:
        """Where the landmarks of a simulated face are, in the axes of a picture, m."""
        if self._body is None:
            from facetwin.twin.face import load_face
            from facetwin.twin.geometry import GeometricLandmarks
            from facetwin.twin.kinematics import Kinematics

            face = load_face()
            self._body = Kinematics(self.rig.spec, face), GeometricLandmarks(face)
        kinematics, points = self._body
        assert frame.truth is not None
        seen = points(frame.truth["vertices"], kinematics.poses(frame.truth["position"]))
        return np.asarray(seen * (1.0, -1.0, -1.0))

    def _measured_unit(self) -> float:
        if self._by_geometry:
            self._seen()
            return float(self._body[1].unit)
        found = []
        for _ in range(LOOKS):
            _, points = self._seen()
            if points is not None:
                found.append(fit_unit(points))
            self.rig.clock.sleep(2 * TICK)
        return float(np.median(found)) if found else 1.0

    def _checked_command(self, command: ArrayLike, where: str) -> Floats:
        n = self.rig.spec.size
        try:
            given = np.asarray(command, dtype=np.float64)
        except (TypeError, ValueError):
            raise FaceTwinError(
                "not a command", where=where, found=command, expected=f"{n} numbers"
            ) from None
        if given.shape != (n,):
            raise FaceTwinError(
                "not a command", where=where, found=f"shape {given.shape}", expected=f"({n},)"
            )
        if not np.isfinite(given).all():
            i = int(np.flatnonzero(~np.isfinite(given))[0])
            raise FaceTwinError("not a command", where=f"{where}: {self.rig.spec.names[i]}",
                                found=float(given[i]), expected="a finite number in [0, 1]")  # fmt: skip
        return given


def motor_table(name: str = "face26") -> Callable[[C], C]:
    """Class decorator: puts the rig file's motor table in place of ``{motors}`` in the docstring."""

    def fill(cls: C) -> C:
        if cls.__doc__:  # python -OO has none
            table = load_rig(name).table().replace("\n", "\n    ")
            cls.__doc__ = cls.__doc__.replace("{motors}", table)
        return cls

    return fill


def _rig_of(rig: str | Rig, size: tuple[int, int] | None, options: dict[str, Any], where: str) -> SafetyLayer:
    if isinstance(rig, Rig):
        if options:
            raise UsageError("options are for a rig given by name", where=where, found=", ".join(options))
        return rig if isinstance(rig, SafetyLayer) else SafetyLayer(rig)
    if not isinstance(rig, str):
        raise UsageError("not a rig", where=where, found=rig, expected='a name such as "sim:", or a Rig')
    scheme, _, given = parse_name(rig)
    # A rig that can make pictures of this size should: cheaper than scaling them.
    takes = inspect.signature(load_driver(scheme)).parameters
    if size is not None and "size" in takes and "size" not in {**given, **options}:
        options["size"] = size
    return SafetyLayer(make_rig(rig, **options))


def _inner(rig: Rig) -> Any:
    """The rig behind all safety layers."""
    while isinstance(rig, SafetyLayer):
        rig = rig.inner
    return rig


def _checked_size(size: int | tuple[int, int] | None, where: str) -> tuple[int, int] | None:
    if size is None:
        return None
    pair = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    whole = all(isinstance(s, (int, np.integer)) and not isinstance(s, bool) for s in pair)
    if len(pair) != 2 or not whole or not all(16 <= s <= 4096 for s in pair):
        raise UsageError("bad size", where=where, found=size, expected="16 to 4096 px, or (width, height)")
    return int(pair[0]), int(pair[1])


def _fitted(image: Pixels, width: int, height: int) -> Pixels:
    """A picture [shape=(h, w, 3)] cut to the shape wanted, then scaled: (H, W, 3), a copy."""
    h, w = image.shape[:2]
    if (h, w) == (height, width):
        return image.copy()
    import cv2

    across, down = min(w, round(h * width / height)), min(h, round(w * height / width))
    left, top = (w - across) // 2, (h - down) // 2
    cut = image[top : top + down, left : left + across]  # (down, across, 3)
    how = cv2.INTER_AREA if across >= width else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(cut, (width, height), interpolation=how), dtype=np.uint8)
