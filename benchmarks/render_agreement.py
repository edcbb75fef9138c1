"""The fast renderer judged by OpenGL: the tracker's landmarks, silhouettes and pixels (DESIGN section 7).

    python benchmarks/render_agreement.py              # 200 poses, some minutes; draws a picture, too
    python benchmarks/render_agreement.py --poses 20

Poses are babbled (`mixed`, seed 0), projected onto what the couplings allow and solved by `exact` from rest.
Both renderers draw each at the rig file's own size with four samples a pixel. How far apart the tracker
sees them is set beside its own jitter: how far apart it sees two OpenGL pictures of one pose whose cameras
stand a part of a pixel beside each other. Landmarks are aligned, in u, one look at a picture.

The silhouette is that of the skin alone (holes for eyes and mouth included), white before black, where at
least half a pixel is covered; its overlap is intersection over union.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from itertools import islice
from pathlib import Path

import numpy as np

from facetwin.cli.progress import track
from facetwin.policies.babble import mixed
from facetwin.twin.camera import Camera
from facetwin.twin.couplings import Couplings
from facetwin.twin.face import Face
from facetwin.twin.landmarks import align, fit_unit, indices
from facetwin.twin.raster import RasterCamera
from facetwin.twin.spec import CameraSpec, RigSpec, load_rig
from facetwin.twin.tracker import Tracker
from facetwin.twin.twin import FaceTwin, State

SEED = 0
#: parts of a pixel by which the camera moves to measure jitter
SHIFTS = ((0.3, 0.2), (-0.25, 0.35))
SETS = {
    "all": slice(0, 468),
    "lips": indices("lips40"),
    "eyes": np.concatenate([indices("right_eye16"), indices("left_eye16")]),
    "brows": np.concatenate([indices("right_brow10"), indices("left_brow10")]),
}
DOCS = Path(__file__).resolve().parent.parent / "docs"


def postures(spec: RigSpec, count: int, solver: str) -> list[State]:
    """Babbled postures, each solved from rest."""
    rules = Couplings(spec)
    commands = [rules.project(c) for c in islice(mixed(spec, np.random.default_rng(SEED)), count)]
    with FaceTwin(spec, solver=solver) as twin:
        return [twin.move(c, fresh=True) for c in track(commands, description="solving")]


def moved(lens: CameraSpec, across: float, up: float) -> CameraSpec:
    """The same camera, standing so many pixels aside."""
    pixel = 2 * 2 * lens.distance * np.tan(lens.vertical_fov / 2) / lens.height
    x, y, z = lens.position_error
    return dataclasses.replace(lens, position_error=(x + across * pixel, y + up * pixel, z))


def silhouette(picture: np.ndarray) -> np.ndarray:
    """Where white skin covers at least half of a black pixel (white shaded to `shade` at its darkest)."""
    return picture.max(-1) > 96


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union."""
    return float((a & b).sum() / max((a | b).sum(), 1))


def bare(face: Face) -> Face:
    """The skin alone, white."""
    return dataclasses.replace(face, parts=(), detail_colours=np.ones_like(face.detail_colours))


def main() -> None:
    """Measure, print, draw, write the figures."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--poses", type=int, default=200)
    options.add_argument("--solver", default="exact")
    asked = options.parse_args()
    facts, tiles = measure(asked.poses, asked.solver)
    print(json.dumps(facts, indent=1))
    if asked.poses >= 200:
        import cv2

        (DOCS / "camera_agreement.json").write_text(json.dumps(facts, indent=1) + "\n")
        cv2.imwrite(str(DOCS / "pictures" / "renderers.png"), tiles[:, :, ::-1])


def measure(count: int, solver: str = "exact") -> tuple[dict[str, object], np.ndarray]:
    """Figures, and a picture: three postures by OpenGL, by our kernels, and how far apart, four-fold."""
    spec = load_rig()
    lens = spec.cameras["mirror"]
    states = postures(spec, count, solver)
    with FaceTwin(spec, solver="linear") as twin:
        face = twin.face
    dark = dataclasses.replace(lens, background=(0.0, 0.0, 0.0))
    quality, fast = Camera(face, lens), RasterCamera(face, lens)
    others = [Camera(face, moved(lens, *shift)) for shift in SHIFTS]
    masks = Camera(bare(face), dark), RasterCamera(bare(face), dark)
    apart: dict[str, list[float]] = {name: [] for name in SETS}
    jitter: dict[str, list[float]] = {name: [] for name in SETS}
    pixels, overlaps, lost, rows = [], [], [0, 0], []
    with Tracker() as tracker:
        rest = tracker.detect(quality.render(face.rest, {}), mirrored=True)
        assert rest is not None
        unit = fit_unit(rest)

        def look(picture: np.ndarray) -> np.ndarray | None:
            points = tracker.detect(picture, mirrored=True)
            return None if points is None else align(points, unit=unit)[:, :2]

        for n, state in enumerate(track(states, description="comparing")):
            a, b = quality.render(state.vertices, state.poses), fast.render(state.vertices, state.poses)
            overlaps.append(overlap(*(silhouette(m.render(state.vertices, state.poses)) for m in masks)))
            pixels.append(np.abs(a.astype(int) - b).mean())
            one, two = look(a), look(b)
            lost[0] += one is None
            lost[1] += two is None
            if one is None or two is None:
                continue
            for name, part in SETS.items():
                apart[name].append(float(np.linalg.norm(one[part] - two[part], axis=1).mean()))
            for other in others:
                again = look(other.render(state.vertices, state.poses))
                if again is not None:
                    for name, part in SETS.items():
                        jitter[name].append(float(np.linalg.norm(one[part] - again[part], axis=1).mean()))
            if n in (0, count // 2, count - 1):
                rows.append(
                    np.hstack([a, b, np.clip(4 * np.abs(a.astype(int) - b), 0, 255).astype(np.uint8)])
                )
    for camera in (quality, *others, *masks):
        camera.close()
    return {
        "poses": count,
        "seed": SEED,
        "solver": solver,
        "size": [lens.width, lens.height],
        "unit": "u (outer eye corners = 1)",
        "face_not_found": {"quality": lost[0], "fast": lost[1]},
        "landmarks_apart": {k: spread(v) for k, v in apart.items()},
        "jitter_of_the_tracker": {k: spread(v) for k, v in jitter.items()},
        "silhouette_overlap": {"mean": round(float(np.mean(overlaps)), 5), "least": round(min(overlaps), 5)},
        "pixels_apart": {"mean": round(float(np.mean(pixels)), 3), "most": round(float(np.max(pixels)), 3)},
    }, np.vstack(rows)


def spread(values: list[float]) -> dict[str, float]:
    """Mean, median and 95th percentile."""
    return {
        "mean": round(float(np.mean(values)), 5),
        "median": round(float(np.median(values)), 5),
        "p95": round(float(np.percentile(values, 95)), 5),
    }


if __name__ == "__main__":
    sys.exit(main())
