"""Eyes: cameras that look at a face, apart from the buses that move it.

A serial rig has no camera of its own; it is given an eye by name, ``webcam:0?width=640&height=480``. Eyes
are entry points of the group ``facetwin.eyes``. An eye runs on real time: the `time` of its pictures is
`time.monotonic`, as on the clock of real rigs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from facetwin.hardware.plugins import EYES, construct, installed, load, parse_url
from facetwin.hardware.rig import Frame
from facetwin.twin.errors import UsageError


class Eye(ABC):
    """A camera.

    Constructing one touches nothing. Between `open` and `close`, `look` returns the newest picture at once,
    the same one again if there is no newer; pictures that come meanwhile are thrown away.

    Attributes
    ----------
    shape : (H, W, 3)
        Of the pictures, known before it is opened.
    """

    shape: tuple[int, int, int]

    @abstractmethod
    def open(self) -> None:
        """Connect; opening twice does nothing. Raises `FaceTwinError` that says what to try next."""

    @abstractmethod
    def look(self) -> Frame:
        """The newest picture, RGB.

        Raises
        ------
        FaceTwinError
            Not open.
        OSError or TimeoutError
            No picture for longer than a moment; the rig asks again, then stops the face.
        """

    @abstractmethod
    def close(self) -> None:
        """Disconnect; closing twice is fine, also after an `open` that failed."""


def make_eye(name: str) -> Eye:
    """Construct an eye by its name, closed: ``webcam:0?width=640&height=480&mirror=true&delay=0.03``.

    Raises `UsageError` for an unknown kind or option, with the nearest right one.
    """
    scheme, rest, options = parse_url(name)
    known = installed(EYES)
    if scheme is None:
        raise UsageError("not the name of an eye", found=name,
                         expected=", ".join(f"{s}:..." for s in known),
                         hint="webcam:0 is the first camera")  # fmt: skip
    eye = construct(name, load(scheme, known, "eye"), rest, options)
    if not isinstance(eye, Eye):
        raise UsageError("not an eye", where=name, found=type(eye).__name__, expected="a subclass of Eye")
    return eye
