"""The landmark tracker: MediaPipe FaceMesh behind one small class (DESIGN sections 2 and 7).

FaceMesh 0.10.21 is the last release with its models inside the wheel. Nothing outside this file knows
MediaPipe, so that another tracker can take its place.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.landmarks import POINTS, mirror_index

#: below this detector score a blob is not called a face; low, because a robot is one only at second sight
MIN_CONFIDENCE = 0.2

#: how the picture is changed for each look: flipped, shifted (shares of its size), scaled, turned (degrees)
LOOKS = (
    (False, 0.0, 0.0, 1.0, 0.0),
    (True, 0.0, 0.0, 1.0, 0.0),
    (False, 0.013, 0.009, 1.05, 3.0),
    (True, -0.011, 0.014, 0.96, 3.0),
    (False, -0.017, -0.012, 0.93, -2.0),
    (True, 0.015, -0.010, 1.03, -2.0),
)


class Tracker:
    """Find one face in a picture and its 478 landmarks.

    Parameters
    ----------
    video : bool
        True: frames of one video in order, the region of interest follows the face (fast, stateful;
        `reset` between videos). False: every picture is its own, same picture, same answer.
    max_faces : int
        How many faces are looked for by `detect_all`.
    looks : int in 1..6
        Look at the picture that often, flipped, shifted, turned and scaled a little, and average what is
        seen. One look at the robot jitters by .009 u, four by about half; each costs the same time again.
    second_try : bool
        When no face is found, try the picture in grey, then grey with its histogram equalised
        (the published rig needed it: Audio2Landmark report, section 2.5).
    """

    def __init__(
        self, *, video: bool = False, max_faces: int = 1, looks: int = 1, second_try: bool = True
    ) -> None:
        if not 1 <= looks <= len(LOOKS) or (looks > 1 and (video or max_faces > 1)):
            raise UsageError(
                "cannot look like that", where="Tracker", found=f"{looks=}, {video=}, {max_faces=}",
                expected=f"1 to {len(LOOKS)} looks, more than one only at single pictures of one face",
            )  # fmt: skip
        self.looks = looks
        _listen_again()
        with _quiet_stderr():
            from mediapipe.python.solutions.face_mesh import FaceMesh

            self._mesh = FaceMesh(
                static_image_mode=not video,
                max_num_faces=max_faces,
                refine_landmarks=True,
                min_detection_confidence=MIN_CONFIDENCE,
                min_tracking_confidence=MIN_CONFIDENCE,
            )
        self._second_try = second_try
        self.second_tries = 0  #: how many pictures needed the second try

    def detect(self, image: NDArray[np.uint8], *, mirrored: bool = False) -> NDArray[np.float32] | None:
        """Landmarks of the first face found, or None.

        Parameters
        ----------
        image : uint8 [shape=(H, W, 3)], RGB
        mirrored : bool
            The picture shows a mirror: it is flipped back first, so that point 33 is always the
            face's own right eye, and the answer is in the flipped-back picture.

        Returns
        -------
        float32 [shape=(478, 3), px] or None: x right, y down, z away from the camera.
        """
        picture = _checked(image)
        if mirrored:
            picture = np.ascontiguousarray(picture[:, ::-1])
        seen = [points for look in LOOKS[: self.looks] if (points := self._look(picture, *look)) is not None]
        return np.mean(seen, axis=0, dtype=np.float64).astype(np.float32) if seen else None

    def _look(
        self, picture: NDArray[np.uint8], flip: bool, dx: float, dy: float, scale: float, turn: float
    ) -> NDArray[np.float32] | None:
        height, width = picture.shape[:2]
        changed: NDArray[Any] = picture
        back: NDArray[Any] = np.eye(2, 3)
        if (dx, dy, scale, turn) != (0.0, 0.0, 1.0, 0.0):
            import cv2

            way: NDArray[Any] = cv2.getRotationMatrix2D((width / 2, height / 2), turn, scale)
            way[:, 2] += (dx * width, dy * height)
            changed = cv2.warpAffine(picture, way, (width, height), borderMode=cv2.BORDER_REPLICATE)
            back = cv2.invertAffineTransform(way)
        found = self.detect_all(changed[:, ::-1] if flip else changed)
        if not len(found):
            return None
        points = found[0]
        if flip:
            points = points[mirror_index()]
            points[:, 0] = width - points[:, 0]
        out = points.copy()
        out[:, :2] = points[:, :2] @ back[:, :2].T + back[:, 2]
        out[:, 2] = points[:, 2] / scale
        return out

    def detect_all(self, image: NDArray[np.uint8], *, mirrored: bool = False) -> NDArray[np.float32]:
        """Landmarks of all faces found, float32 [shape=(faces, 478, 3), px]."""
        picture = _checked(image)
        if mirrored:
            picture = picture[:, ::-1]
        picture = np.ascontiguousarray(picture)
        with _quiet_stderr():
            result = self._mesh.process(picture).multi_face_landmarks
            if not result and self._second_try:
                import cv2

                grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
                self.second_tries += 1
                for second in (grey, cv2.equalizeHist(grey)):
                    result = self._mesh.process(cv2.cvtColor(second, cv2.COLOR_GRAY2RGB)).multi_face_landmarks
                    if result:
                        break
        height, width = picture.shape[:2]
        out = np.empty((len(result or ()), POINTS, 3), np.float32)
        for k, face in enumerate(result or ()):
            out[k] = [(p.x, p.y, p.z) for p in face.landmark]
        return out * np.array((width, height, width), np.float32)

    def reset(self) -> None:
        """Forget the last frame: the next picture starts a new video."""
        with _quiet_stderr():
            self._mesh.reset()

    def close(self) -> None:
        """Free the graph; closing twice is fine."""
        if self._mesh is not None:
            mesh, self._mesh = self._mesh, None
            mesh.close()

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _checked(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise FaceTwinError(
            "not a picture", found=f"{image.dtype} {image.shape}", expected="uint8 (H, W, 3), RGB"
        )
    return image


_silenced = 0


def _listen_again() -> None:
    # every graph chatters at its own first pictures
    global _silenced
    _silenced = 0


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Keep the C++ chatter of MediaPipe's first frames off the user's terminal."""
    global _silenced
    if _silenced > 4 or os.environ.get("FACETWIN_TRACKER_LOG"):
        yield
        return
    _silenced += 1
    try:
        saved = os.dup(2)
    except OSError:
        yield
        return
    try:
        with open(os.devnull, "w") as null:
            os.dup2(null.fileno(), 2)
            try:
                yield
            finally:
                os.dup2(saved, 2)
    finally:
        os.close(saved)
