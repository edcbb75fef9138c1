"""Sound of any file that ffmpeg reads, as mono float32 at 16 kHz, whole or in chunks of bounded memory.

Time zero is the first picture of the file where there is one: sound that starts later is preceded by
silence, earlier sound is cut, so that sample n belongs to the picture at n / 16000 s.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from facetwin.twin.errors import FaceTwinError, UsageError

RATE = 16_000
#: a channel, or a file, whose peak stays below this (-80 dB of full scale) is silent
SILENCE = 1e-4
#: a channel this far below the loudest one (power, -50 dB) is a dead microphone
DEAD = 1e-5
#: timestamps that jump by more than this are a hole in the recording (s)
HOLE = 0.1

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class AudioInfo:
    """What one pass over a sound file finds, without keeping its samples.

    Attributes
    ----------
    path : Path
    samples : int, at 16 kHz
    rate, channels : int, as recorded
    weights : float32 [shape=(channels,)], the mono mix
    peak : float, largest |sample| of the mix, 1 = full scale
    notes : tuple of str, what a user may want to know
    """

    path: Path
    samples: int
    rate: int
    channels: int
    weights: Samples
    peak: float
    notes: tuple[str, ...] = ()

    @property
    def duration(self) -> float:
        """Length in s."""
        return self.samples / RATE

    @property
    def silent(self) -> bool:
        """Nothing in it is louder than -80 dB of full scale."""
        return self.peak < SILENCE


@dataclass(frozen=True)
class Audio:
    """Mono sound: samples float32 [shape=(n,), -1..1], 16 kHz, and how it was read."""

    samples: Samples
    info: AudioInfo
    rate: int = field(default=RATE)

    @property
    def duration(self) -> float:
        """Length in s."""
        return len(self.samples) / self.rate

    @property
    def silent(self) -> bool:
        """Nothing in it is louder than -80 dB of full scale."""
        return self.info.silent

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on the reading, each one line."""
        return self.info.notes


def load(path: str | Path) -> Audio:
    """The whole sound of a file; raises a one-line `FaceTwinError` where there is none to be had."""
    source = _Source(path)
    tally = _Tally(source)
    blocks = [tally.add(block) for block in source]
    info = tally.close()
    whole = np.concatenate(blocks, axis=1)  # (channels, n)
    return Audio(info.weights @ whole, info)


def scan(path: str | Path) -> AudioInfo:
    """Length, channels, loudness and faults of a file, in one pass and bounded memory."""
    source = _Source(path)
    tally = _Tally(source)
    for block in source:
        tally.add(block)
    return tally.close()


def stream(
    path: str | Path, chunk_s: float = 1.0, *, info: AudioInfo | None = None, rate: int = RATE
) -> Iterator[Samples]:
    """The sound in chunks, float32 [shape=(chunk_s * rate,)], the last one shorter.

    The file is scanned first (unless the `info` of a scan is given), because the mix depends on which
    channels are dead; joined, the chunks equal ``load(path).samples``.
    """
    if not chunk_s > 0:
        raise UsageError("chunk length must be positive", where="stream()", found=chunk_s, expected="> 0 s")
    weights = (info or scan(path)).weights
    size = max(1, round(chunk_s * rate))
    held: list[Samples] = []
    count = 0
    for block in _Source(path, rate):
        held.append(weights @ block)
        count += block.shape[1]
        if count >= size:
            joined = np.concatenate(held)
            whole = count - count % size
            for start in range(0, whole, size):
                yield joined[start : start + size]
            held, count = [joined[whole:]], count - whole
    if count:
        yield np.concatenate(held)


def has_sound(path: str | Path) -> bool:
    """Whether the file has a sound track at all (it may still be damaged or silent)."""
    try:
        with open_media(path) as container:
            return bool(container.streams.audio)
    except FaceTwinError:
        return False


def open_media(path: str | Path) -> av.container.InputContainer:
    """A PyAV container, or a one-line error that names the file."""
    path = Path(path)
    if not path.exists():
        raise UsageError("no such file", where=path, hint="check the path")
    if path.is_dir():
        raise UsageError("is a folder, not a recording", where=path, hint="name one file")
    if path.stat().st_size == 0:
        raise FaceTwinError("the file is empty", where=path, found="0 bytes", expected="sound or video")
    try:
        return av.open(str(path), metadata_errors="replace")
    except (av.error.FFmpegError, ValueError, OSError) as why:
        raise FaceTwinError(
            "neither sound nor video", where=path, found=_reason(why), hint="give a file that ffmpeg reads"
        ) from None


class _Source:
    """Iterate a file's sound as float32 blocks [shape=(channels, n)] at `out` Hz from time zero."""

    def __init__(self, path: str | Path, out: int = RATE) -> None:
        self.path = Path(path)
        self._out = out
        self.rate = self.channels = 0
        self.damaged = 0  # packets that would not decode
        self.holes = 0.0  # seconds of silence put in

    def __iter__(self) -> Iterator[Samples]:
        with open_media(self.path) as container:
            if not container.streams.audio:
                raise FaceTwinError(
                    "no sound track", where=self.path, hint="give a recording with sound, or use --text"
                )
            track = container.streams.audio[0]
            zero = _first_picture(container)
            resampler: av.AudioResampler | None = None
            drop = 0  # samples before time zero still to be cut
            seen = 0.0  # end of the last decoded frame on the file's own clock, s
            for frame in self._frames(container, track):
                if resampler is None:
                    self.rate, self.channels = frame.sample_rate, len(frame.layout.channels)
                    resampler = av.AudioResampler(format="fltp", layout=frame.layout, rate=self._out)
                    start = (frame.time or 0.0) - zero if zero is not None else 0.0
                    seen = frame.time or 0.0
                    drop = max(0, round(-start * self._out))
                    if start > 0:
                        yield np.zeros((self.channels, round(start * self._out)), np.float32)
                if frame.time is not None and HOLE < frame.time - seen < 3600:
                    self.holes += frame.time - seen
                    yield np.zeros((self.channels, round((frame.time - seen) * self._out)), np.float32)
                seen = (frame.time if frame.time is not None else seen) + frame.samples / frame.sample_rate
                frame.pts = None  # the resampler counts by itself
                try:
                    out = resampler.resample(frame)
                except (av.error.FFmpegError, ValueError):  # the format changed on the way
                    self.damaged += 1
                    continue
                for piece in out:
                    block = piece.to_ndarray()
                    cut = min(drop, block.shape[1])
                    drop -= cut
                    yield block[:, cut:]
            if resampler is not None:
                for piece in resampler.resample(None):
                    yield piece.to_ndarray()[:, drop:]

    def _frames(
        self, container: av.container.InputContainer, track: av.AudioStream
    ) -> Iterator[av.AudioFrame]:
        packets = container.demux(track)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.error.FFmpegError:
                self.damaged += 1
                return
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                self.damaged += 1
                continue
            yield from frames


class _Tally:
    """Per-channel facts, gathered block by block."""

    def __init__(self, source: _Source) -> None:
        self._source = source
        self._count = 0
        self._gram = np.zeros((0, 0))  # sums of products of channels: power of any mix
        self._peaks = np.zeros(0)

    def add(self, block: Samples) -> Samples:
        if not self._count:
            self._gram = np.zeros((len(block), len(block)))
            self._peaks = np.zeros(len(block))
        if not np.isfinite(block).all():
            where = (self._count + int(np.argmin(np.isfinite(block).all(0)))) / RATE
            raise FaceTwinError(
                "sound holds NaN or infinity",
                where=self._source.path,
                found=f"the first at {where:.2f} s",
                expected="finite samples",
                hint="repair or re-export the recording",
            )
        if block.shape[1]:
            wide = block.astype(np.float64)
            self._gram += wide @ wide.T
            self._peaks = np.maximum(self._peaks, np.abs(block).max(1))
        self._count += block.shape[1]
        return block

    def close(self) -> AudioInfo:
        source = self._source
        if not self._count:
            raise FaceTwinError(
                "no sound in it",
                where=source.path,
                found=f"0 samples, {source.damaged} damaged packets",
                hint="give a recording that plays",
            )
        notes = []
        power = np.diag(self._gram)
        live = (self._peaks >= SILENCE) & (power >= DEAD * power.max())
        if not live.any():
            live[:] = True
        channels = len(live)
        weights = live / live.sum()
        if not live.all():
            dead = ", ".join(str(k + 1) for k in np.flatnonzero(~live))
            notes.append(f"channel {dead} of {channels} is silent and was left out")
        mixed = float(weights @ self._gram @ weights)
        if live.sum() > 1 and mixed < 1e-3 * power.max():
            weights = np.eye(channels)[int(np.argmax(power))]
            notes.append("the channels cancel each other: only the loudest is used")
        peak = float(self._peaks @ weights) if mixed > 0 or live.sum() == 1 else 0.0
        if peak < SILENCE:
            notes.append("silent: nothing is louder than -80 dB of full scale")
        if source.rate < RATE:
            notes.append(f"recorded at {source.rate} Hz: nothing above {source.rate // 2} Hz to hear")
        if source.holes:
            notes.append(f"{source.holes:.2f} s of missing sound were filled with silence")
        if source.damaged:
            notes.append(f"{source.damaged} damaged packets were skipped")
        return AudioInfo(
            source.path, self._count, source.rate, channels, weights.astype(np.float32), peak, tuple(notes)
        )


def _first_picture(container: av.container.InputContainer) -> float | None:
    """Time of the first picture in s, None for sound alone (a cover picture is not a video)."""
    for track in container.streams.video:
        if not track.disposition & av.stream.Disposition.attached_pic and track.start_time is not None:
            return float(track.start_time * track.time_base)
    return None


def _reason(why: BaseException) -> str:
    text = getattr(why, "strerror", None) or str(why)
    return text.splitlines()[0] if text else type(why).__name__
