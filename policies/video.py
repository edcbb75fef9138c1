"""Video in and out by PyAV (ffmpeg inside the wheel): frames with times, and mp4 with sound in step.

Written files are h264 + aac. No B frames, so that a picture's decoding and showing times are one; the
encoder delay of aac goes into the file's edit list, where every player looks for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from numpy.typing import NDArray

from facetwin.policies.audio import open_media, stream
from facetwin.twin.errors import FaceTwinError, UsageError

#: sound is written at this rate
SOUND_RATE = 48_000
#: what the `comment` of every video of a robot face says (DESIGN section 14)
SYNTHETIC = "Synthetic: a robot face driven by facetwin; no person said this on camera."

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class VideoInfo:
    """Facts of a video file.

    Attributes
    ----------
    fps, width, height : pictures a second, size in px
    frames : pictures, as its header says or by its length
    duration : s
    sound : whether there is a sound track
    bitrate : of the pictures alone, kbit/s
    promised : pictures that its header promises, 0 where it does not say
    """

    path: Path
    fps: float
    width: int
    height: int
    frames: int
    duration: float
    sound: bool
    bitrate: float = 0.0
    promised: int = 0


def probe(path: str | Path) -> VideoInfo:
    """Facts of a video, from its header; raises `FaceTwinError` where there is no picture."""
    with open_media(path) as container:
        track = _picture(container, path)
        fps = float(track.average_rate or track.guessed_rate or 25)
        duration = float((container.duration or 0) / av.time_base)
        return VideoInfo(
            Path(path),
            fps,
            track.codec_context.width,
            track.codec_context.height,
            int(track.frames or round(duration * fps)),
            duration,
            bool(container.streams.audio),
            _bitrate(container, track, duration) / 1000,
            int(track.frames or 0),
        )


def read(path: str | Path) -> Iterator[tuple[float, Image]]:
    """Time in s from the first picture, and picture uint8 [shape=(H, W, 3), RGB], in showing order.

    A packet that does not decode is skipped; a file that holds no picture at all raises.
    """
    found = False
    with open_media(path) as container:
        track = _picture(container, path)
        track.thread_count = 1
        zero: float | None = None
        packets = container.demux(track)
        while True:
            try:
                frames = next(packets).decode()
            except StopIteration:
                break
            except av.error.EOFError:
                break
            except av.error.FFmpegError:
                continue
            for frame in frames:
                when = frame.time if frame.time is not None else 0.0
                zero = when if zero is None else zero
                found = True
                yield when - zero, frame.to_ndarray(format="rgb24")
    if not found:
        raise FaceTwinError("no picture decodes", where=path, hint="give a video that plays")


class VideoWriter:
    """Write pictures, and sound with them, to an mp4; it appears under its name only when closed.

    Parameters
    ----------
    path : ends in .mp4; while writing it is ``path.part``
    fps : pictures a second
    size : (width, height) in px; odd sizes are cut by one pixel, as h264 wants
    audio : None, a sound or video file (in full band), or samples float [shape=(n,)]
    audio_rate : rate of `audio` where it is samples, Hz
    title, comment : metadata; the comment marks the video as synthetic unless told otherwise
    quality : x264 constant rate factor, 0 (lossless) to 51

    Sound beyond the last picture is cut, missing sound is silence. Leaving the ``with`` block by an
    exception deletes the unfinished file.
    """

    def __init__(
        self,
        path: str | Path,
        fps: float,
        size: tuple[int, int],
        *,
        audio: str | Path | NDArray[np.floating] | None = None,
        audio_rate: int = 16_000,
        title: str = "",
        comment: str = SYNTHETIC,
        quality: int = 20,
    ) -> None:
        self.path = Path(path)
        self._size = (size[0] - size[0] % 2, size[1] - size[1] % 2)
        if self.path.suffix.lower() != ".mp4":
            raise UsageError("videos are written as .mp4", where=self.path, found=self.path.suffix)
        if min(self._size) < 2 or not fps > 0:
            raise UsageError("no video of that size", where=self.path, found=f"{size} at {fps} fps")
        self._part = self.path.with_name(self.path.name + ".part")
        self._fps = Fraction(fps).limit_denominator(60_000)
        self._frames = 0
        self._heard = 0  # samples of sound written
        self._sound = _Sound(audio, audio_rate) if audio is not None else None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._out: av.container.OutputContainer | None = av.open(
            str(self._part), "w", format="mp4", options={"movflags": "+faststart"}
        )
        if title:
            self._out.metadata["title"] = title
        if comment:
            self._out.metadata["comment"] = comment
        self._track = self._out.add_stream(
            "libx264", rate=self._fps, options={"crf": str(quality), "preset": "veryfast", "bf": "0"}
        )
        self._track.width, self._track.height = self._size
        self._track.pix_fmt = "yuv420p"
        self._track.thread_count = 1
        if self._sound is not None:
            self._voice = self._out.add_stream("aac", rate=SOUND_RATE, layout="mono")
            self._voice.bit_rate = 128_000

    @property
    def frames(self) -> int:
        """Pictures written so far."""
        return self._frames

    def write(self, image: Image) -> None:
        """Append one picture, uint8 [shape=(H, W, 3), RGB]."""
        if self._out is None:
            raise FaceTwinError("the video is closed", where=self.path)
        image = np.asarray(image)
        width, height = self._size
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise FaceTwinError(
                "not a picture",
                where=self.path,
                found=f"{image.dtype} {image.shape}",
                expected="uint8 (H, W, 3)",
            )
        if image.shape[0] - height not in (0, 1) or image.shape[1] - width not in (0, 1):
            raise FaceTwinError(
                "picture of another size", where=self.path, found=image.shape[:2], expected=(height, width)
            )
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format="rgb24")
        frame.pts, frame.time_base = self._frames, 1 / self._fps
        self._out.mux(self._track.encode(frame))
        self._frames += 1
        self._speak(round(self._frames / self._fps * SOUND_RATE))

    def close(self) -> None:
        """Finish the file and give it its name; closing twice is fine."""
        if self._out is None:
            return
        out, self._out = self._out, None
        try:
            if not self._frames:
                raise FaceTwinError("a video without a picture", where=self.path)
            out.mux(self._track.encode(None))
            if self._sound is not None:
                out.mux(self._voice.encode(None))
            out.close()
        except BaseException:
            out.close()
            self._part.unlink(missing_ok=True)
            raise
        os.replace(self._part, self.path)

    def abort(self) -> None:
        """Give up: nothing is left behind."""
        if self._out is not None:
            self._out.close()
            self._out = None
        self._part.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _speak(self, until: int) -> None:
        """Sound up to sample `until`, so that both tracks grow together."""
        if self._sound is None or self._out is None:
            return
        samples = self._sound.take(until - self._heard)
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, self._heard, Fraction(1, SOUND_RATE)
        self._heard = until
        self._out.mux(self._voice.encode(frame))


class _Sound:
    """Mono sound at 48 kHz, handed out on demand, silence after its end."""

    def __init__(self, audio: str | Path | NDArray[np.floating], rate: int) -> None:
        if isinstance(audio, (str, Path)):
            self._blocks: Iterator[NDArray[np.float32]] = stream(audio, 1.0, rate=SOUND_RATE)
            rate = SOUND_RATE
        else:
            samples = np.asarray(audio, np.float32)
            if samples.ndim != 1:
                raise FaceTwinError("sound must be mono", found=samples.shape, expected="(n,)")
            self._blocks = (samples[k : k + rate] for k in range(0, len(samples), rate))
        self._rate = rate
        self._resampler = av.AudioResampler(format="fltp", layout="mono", rate=SOUND_RATE)
        self._held: list[NDArray[np.float32]] = []
        self._ready = 0
        self._ended = False

    def take(self, count: int) -> NDArray[np.float32]:
        while self._ready < count and not self._ended:
            block = next(self._blocks, None)
            frame = None
            if block is None:
                self._ended = True
            else:
                block = np.clip(np.nan_to_num(block), -1, 1)
                frame = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(block[None]), format="fltp", layout="mono"
                )
                frame.sample_rate = self._rate
            for piece in self._resampler.resample(frame):
                self._held.append(piece.to_ndarray()[0])
                self._ready += len(self._held[-1])
        joined = np.concatenate([*self._held, np.zeros(max(0, count - self._ready), np.float32)])
        self._held, self._ready = [joined[count:]], max(0, self._ready - count)
        return joined[:count]


def _bitrate(container: av.container.InputContainer, track: av.VideoStream, duration: float) -> float:
    """Of the pictures, bit/s: as the header says, else the whole file's without the sound's."""
    if track.bit_rate:
        return float(track.bit_rate)
    whole = container.bit_rate or (container.size * 8 / duration if duration else 0)
    return max(0.0, float(whole - sum(each.bit_rate or 0 for each in container.streams.audio)))


def _picture(container: av.container.InputContainer, path: str | Path) -> av.VideoStream:
    for track in container.streams.video:
        if not track.disposition & av.stream.Disposition.attached_pic:
            return track
    raise FaceTwinError("no picture in it", where=path, hint="give a video")
