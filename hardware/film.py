"""The film of a recording: an mp4 in fragments, each readable as soon as it is written."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

SYNTHETIC = "Synthetic: a robot face driven by facetwin."
_TICKS = 90_000  # of the film's clock, a second


class Film:
    """Write a film: where, at how many pictures/s, (width, height), and how long (s) a fragment is."""

    def __init__(self, path: Path, fps: float, size: tuple[int, int], chunk: float) -> None:
        self._container = av.open(
            str(path),
            "w",
            format="mp4",
            options={"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"},
        )
        self._container.metadata["comment"] = SYNTHETIC
        rate = Fraction(fps).limit_denominator(1001)
        self._stream = self._container.add_stream("libx264", rate=rate)
        self._stream.width, self._stream.height = size[0] + size[0] % 2, size[1] + size[1] % 2
        self._stream.pix_fmt = "yuv420p"
        # Nothing is looked ahead at, or it would be lost with the process.
        self._stream.options = {"crf": "16", "preset": "veryfast", "tune": "zerolatency",
                                "g": str(max(1, round(fps * chunk)))}  # fmt: skip
        context = self._stream.codec_context
        context.thread_count = 1
        context.time_base = Fraction(1, _TICKS)
        self._start: float | None = None
        self._last = -1

    def write(self, time: float, image: NDArray[np.uint8]) -> None:
        """Add a picture [shape=(H, W, 3)] of a time (s, rising)."""
        self._start = time if self._start is None else self._start
        height, width = image.shape[:2]
        if height % 2 or width % 2:  # h264 wants even numbers: repeat the last row or column
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        self._last = max(self._last + 1, round((time - self._start) * _TICKS))
        frame.pts, frame.time_base = self._last, Fraction(1, _TICKS)
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the last fragment."""
        try:
            self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()


def film_pictures(path: Path, size: tuple[int, int] | None) -> Iterator[NDArray[np.uint8]]:
    """The pictures of a film, uint8 [shape=(H, W, 3)], cut to `size` (width, height), until it is torn."""
    wide, high = size or (None, None)
    try:
        with av.open(str(path), format="mp4") as container:
            for frame in container.decode(video=0):
                image = np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
                yield np.ascontiguousarray(image[:high, :wide])
    except (av.error.FFmpegError, IndexError):
        # the last fragment of a killed run, or a film killed before its first
        return


def film_size(path: Path) -> tuple[int, int] | None:
    """(width, height) as the head of a film says; None if it has none."""
    try:
        with av.open(str(path), format="mp4") as container:
            stream = container.streams.video[0]
            return stream.width, stream.height
    except (av.error.FFmpegError, IndexError):
        return None
