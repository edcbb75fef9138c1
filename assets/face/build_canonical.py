"""Draw a face, let FaceMesh imagine it in depth, make it symmetric: the canonical face (DESIGN section 5).

    python assets/face/build_canonical.py     # writes canonical.safetensors beside this file

No mesh is downloaded. FaceMesh sees a plausible face in a few ellipses; its 478 points, symmetrised and
scaled so that the outer eye corners are 1 u apart, are the template of `facetwin.twin.landmarks.align`
and the raw material of the skin (`build_face.py`).
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from mediapipe.python.solutions.face_mesh import FaceMesh
from safetensors.numpy import save_file
from scipy.optimize import linear_sum_assignment

SIZE = 512
HERE = Path(__file__).parent


def draw() -> np.ndarray:
    """A face of ellipses, uint8 [shape=(512, 512, 3)], RGB."""
    image = np.full((SIZE, SIZE, 3), (77, 76, 80), np.float32)

    def blob(
        centre: tuple[int, int], axes: tuple[int, int], colour: tuple[int, int, int], blur: float
    ) -> None:
        mask = np.zeros((SIZE, SIZE), np.float32)
        cv2.ellipse(mask, centre, axes, 0, 0, 360, 1, -1, cv2.LINE_AA)
        mask = cv2.GaussianBlur(mask, (0, 0), blur)[..., None]
        image[:] = image * (1 - mask) + np.array(colour, np.float32) * mask

    blob((256, 262), (125, 165), (215, 175, 150), 4)  # head
    for side in (-1, 1):
        blob((256 + side * 52, 225), (30, 14), (235, 230, 225), 2)  # eye
        blob((256 + side * 52, 225), (12, 12), (40, 50, 60), 1)  # iris
        blob((256 + side * 54, 195), (36, 6), (80, 60, 50), 3)  # brow
        blob((256 + side * 14, 298), (8, 5), (150, 110, 90), 3)  # nostril
    blob((256, 285), (20, 16), (225, 190, 165), 6)  # nose
    blob((256, 350), (46, 14), (170, 90, 90), 3)  # lips
    blob((256, 350), (40, 2), (110, 50, 50), 1)
    return image.clip(0, 255).astype(np.uint8)


def imagine(image: np.ndarray) -> np.ndarray:
    """FaceMesh's 478 points of the drawing: float [shape=(478, 3)], face frame, arbitrary unit."""
    with FaceMesh(static_image_mode=True, refine_landmarks=True, min_detection_confidence=0.1) as mesh:
        faces = mesh.process(image).multi_face_landmarks
    if not faces:
        raise SystemExit("FaceMesh finds no face in the drawing; next: look at draw()")
    points = np.array([(p.x, p.y, p.z) for p in faces[0].landmark], float)
    return points * (1.0, -1.0, -1.0)


def symmetrise(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points averaged with their mirror image, and each point's partner (an involution)."""
    p = points - points[[33, 263]].mean(0)
    across = p[263] - p[33]
    x = across / np.linalg.norm(across)
    z = np.cross(x, p[10] - p[152])
    z /= np.linalg.norm(z)
    p = p @ np.stack([x, np.cross(z, x), z], 1)
    p[:, 0] -= np.median(p[[168, 6, 197, 195, 5, 4, 1, 13, 14, 152, 10], 0])
    flipped = p * (-1.0, 1.0, 1.0)
    mirror = np.empty(len(p), np.int64)
    for part in (np.arange(468), np.arange(468, 478)):
        cost = np.linalg.norm(p[part][:, None] - flipped[part][None], axis=2) ** 2
        mirror[part] = part[linear_sum_assignment(cost)[1]]
    if not (mirror[mirror] == np.arange(len(p))).all():
        raise SystemExit("the pairing is no involution; next: look at the drawing's symmetry")
    p = (p + flipped[mirror]) / 2
    p /= np.linalg.norm(p[33] - p[263])
    p -= p[[33, 263, 133, 362]].mean(0)
    return p, mirror


def main() -> None:
    """Write canonical.safetensors."""
    points, mirror = symmetrise(imagine(draw()))
    save_file(
        {"points": points.astype(np.float32), "mirror": mirror.astype(np.int32)},
        HERE / "canonical.safetensors",
        metadata={"made_by": "assets/face/build_canonical.py", "licence": "Apache-2.0"},
    )


if __name__ == "__main__":
    main()
