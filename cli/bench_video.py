"""Reference and all methods side by side, with the sound: what the benchmark's films look like together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from facetwin.cli.bench_contest import LATE, METHODS
from facetwin.cli.bench_reference import Ideal
from facetwin.cli.perform import FPS
from facetwin.policies.video import VideoWriter, read

Image = NDArray[np.uint8]

SIDE, LINE = 232, 24  #: px of a picture and of the line below it
ACROSS = 5
#: clips at most, each the first of its group
SHOWN = 4
INK, PAPER, SOFT = (235, 238, 244), (20, 23, 29), (150, 160, 178)


def side_by_side(
    path: Path, store: Path, ideals: Sequence[Ideal], methods: Iterable[str], *, mark: bool = True
) -> Path:
    """Write the video: the first clip of some groups, reference first, then each method that moved."""
    chosen = pick(ideals)
    sound = np.concatenate([padded(one.clip.samples, len(one)) for one in chosen])
    names = {"reference": "reference"} | {name: METHODS[name] for name in methods if name != "reference"}
    rows = -(-len(names) // ACROSS)
    size = (min(ACROSS, len(names)) * SIDE, rows * (SIDE + LINE) + LINE)
    with VideoWriter(path, FPS, size, audio=sound, title="facetwin: lip sync side by side") as writer:
        for ideal in chosen:
            for picture in clip_pictures(ideal, store, names):
                writer.write(marked(picture) if mark else picture)
    return path


def pick(ideals: Sequence[Ideal], most: int = SHOWN) -> list[Ideal]:
    """The first clip of each group; of many groups the first ones and the last."""
    first: dict[str, Ideal] = {}
    for one in ideals:
        first.setdefault(one.clip.group, one)
    every = list(first.values())
    return every if len(every) <= most else [*every[: most - 1], every[-1]]


def padded(samples: NDArray[np.floating], pictures: int) -> NDArray[np.float32]:
    """Sound of as many pictures as there are, silence where it ends before."""
    out = np.zeros(round(pictures / FPS * 16_000), np.float32)
    part = samples[: len(out)]
    out[: len(part)] = part
    return out


def clip_pictures(ideal: Ideal, store: Path, names: dict[str, str]) -> Iterator[Image]:
    """The tiles of one clip, picture after picture; the last one of a film that is short is held."""
    films = {name: film_of(name, ideal, store) for name in names}
    for k in range(len(ideal)):
        yield tiles(
            [(label, films[name][k]) for name, label in names.items()],
            f"{ideal.clip.group}   {ideal.name}   {k / FPS:5.2f} s",
        )


def film_of(name: str, ideal: Ideal, store: Path) -> list[Image]:
    """What a method's clip looked like; a late copy of the reference is made of the reference's film."""
    frames = LATE.get(name)
    pictures = film(store / ideal.name / f"{'reference' if frames is not None else name}.mp4", len(ideal))
    return [pictures[max(0, k - (frames or 0))] for k in range(len(pictures))]


def film(path: Path, pictures: int) -> list[Image]:
    """Pictures of a film, uint8 [each shape=(SIDE, SIDE, 3)], cut to a square around the middle."""
    out = [square(picture) for _, picture in read(path)][:pictures]
    return out + out[-1:] * (pictures - len(out))


def square(picture: Image, side: int = SIDE) -> Image:
    """The middle square of a picture, scaled."""
    height, width = picture.shape[:2]
    least = min(height, width)
    top, left = (height - least) // 2, (width - least) // 2
    cut = picture[top : top + least, left : left + least]
    how = cv2.INTER_AREA if least > side else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(cut, (side, side), interpolation=how), np.uint8)


def tiles(pictures: Sequence[tuple[str, Image]], title: str) -> Image:
    """Labelled pictures in rows of `ACROSS` under a title."""
    rows, across = -(-len(pictures) // ACROSS), min(ACROSS, len(pictures))
    out = np.empty((rows * (SIDE + LINE) + LINE, across * SIDE, 3), np.uint8)
    out[:] = PAPER
    put(out, title, (8, LINE - 7), SOFT)
    for k, (label, picture) in enumerate(pictures):
        top, left = LINE + (k // ACROSS) * (SIDE + LINE), (k % ACROSS) * SIDE
        out[top : top + SIDE, left : left + SIDE] = picture
        put(out, label, (left + 8, top + SIDE + LINE - 7), INK)
    return out


def put(picture: Image, text: str, place: tuple[int, int], colour: tuple[int, int, int]) -> None:
    """Write a line of plain letters into a picture."""
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(picture, plain, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)


def marked(picture: Image) -> Image:
    """The picture with a small "synthetic" in its upper right corner, beside the title."""
    put(picture, "synthetic", (picture.shape[1] - 76, LINE - 7), INK)
    return picture
