"""Make the pictures of the documentation.

python docs/make_pictures.py poses               # the face in its key poses
python docs/make_pictures.py talking VIDEO       # a strip of frames of a spoken video
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

PICTURES = Path(__file__).resolve().parent / "pictures"
SIZE = 400


def poses() -> None:
    """docs/pictures/poses.jpg: neutral, open, pucker, smile, blink, gaze and more, in the mirror."""
    from facetwin.twin.spec import load_rig
    from facetwin.twin.twin import FaceTwin

    spec = load_rig()
    wanted: dict[str, dict[str, float]] = {
        "neutral": {},
        "open": {"jaw": 0.75},
        "half open": {"jaw": 0.3},
        "pucker": {"corner_stretch": 0, "upper_lip_roll": 0.9, "lower_lip_roll": 0.9, "lower_lip_raise": 0.6},
        "smile": {"corner_up": 0.8, "corner_stretch": 0.85},
        "frown": {"corner_low": 0.8, "corner_up": 0.1, "inner_brow": 0.9, "outer_brow": 0.2},
        "blink": {"upper_lid": 0.0},
        "gaze": {"eye_yaw": 0.95, "eye_pitch": 0.7},
        "lips pressed": {"lower_lip_raise": 1.0, "upper_lip_raise": 0.0},
        "lip to teeth": {"lower_lip_roll": 0.1, "lower_lip_raise": 0.85, "upper_lip_raise": 0.8, "jaw": 0.08},
        "surprise": {"inner_brow": 1.0, "outer_brow": 1.0, "upper_lid": 1.0, "jaw": 0.55},
        "turned": {"neck_yaw": 1.0, "neck_pitch": 0.7, "jaw": 0.2},
    }
    tiles = []
    with FaceTwin(spec, size=(SIZE, SIZE)) as twin:
        for name, motors in wanted.items():
            command = spec.rest.copy()
            for ending, value in motors.items():
                command[[i for i, n in enumerate(spec.names) if n.endswith(ending)]] = value
            picture = twin.picture(twin.move(command, fresh=True)).copy()
            cv2.putText(
                picture, name, (12, 28), cv2.FONT_HERSHEY_SIMPLEX, 0.65, (255, 255, 255), 1, cv2.LINE_AA
            )
            tiles.append(picture)
    grid = np.vstack([np.hstack(tiles[k : k + 4]) for k in range(0, len(tiles), 4)])
    _write("poses.jpg", grid)


def talking(video: str) -> None:
    """docs/pictures/talking.jpg: six frames of a video, evenly spread over its lively part."""
    import av

    with av.open(video) as file:
        frames = [f.to_ndarray(format="rgb24") for f in file.decode(video=0)]
    picks = np.linspace(len(frames) * 0.1, len(frames) * 0.9, 60).astype(int)
    lower = [
        frames[k][frames[k].shape[0] * 6 // 10 : frames[k].shape[0] * 8 // 10].astype(int) for k in picks
    ]
    chosen = [0]
    while len(chosen) < 6:  # each next frame differs most from those chosen
        distance = [min(np.abs(lower[k] - lower[c]).mean() for c in chosen) for k in range(len(picks))]
        chosen.append(int(np.argmax(distance)))
    tiles = [
        cv2.resize(frames[picks[k]], (SIZE * 3 // 4,) * 2, interpolation=cv2.INTER_AREA)
        for k in sorted(chosen)
    ]
    _write("talking.jpg", np.hstack(tiles))


def _write(name: str, picture: np.ndarray) -> None:
    PICTURES.mkdir(exist_ok=True)
    cv2.imwrite(str(PICTURES / name), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    print(PICTURES / name)


if __name__ == "__main__":
    if sys.argv[1:2] == ["poses"]:
        poses()
    elif sys.argv[1:2] == ["talking"] and len(sys.argv) == 3:
        talking(sys.argv[2])
    else:
        raise SystemExit(__doc__)
