"""The face asset: soft skin, its finer seen mesh, and the rigid parts around it (DESIGN section 5)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from scipy.sparse.csgraph import dijkstra

from facetwin import assets
from facetwin.twin.errors import FaceTwinError, UsageError

#: what a triangle of the skin is
LABELS = ("skin", "upper_lip", "lower_lip", "upper_rim", "lower_rim", "eye_rim")


@dataclass(frozen=True)
class Part:
    """One rigid part: a mesh that a link of the kinematic tree carries.

    `small`: fewer triangles of the same vertices, for small pictures (`assets/face/simplify.py`).
    """

    name: str
    link: str
    gloss: float
    vertices: NDArray[np.float64]  # (V, 3), m
    triangles: NDArray[np.int32]  # (T, 3)
    colours: NDArray[np.float32]  # (V, 3), sRGB
    small: NDArray[np.int32] | None = None  # (t, 3)


@dataclass(frozen=True)
class Link:
    """A rigid body of the head: where it turns and what carries it."""

    name: str
    parent: str
    pivot: NDArray[np.float64]  # (3,), m


@dataclass(frozen=True)
class Face:
    """The built face at rest, in the face frame, metres.

    The first 468 skin vertices are MediaPipe's points. `detail` maps skin vertices to the finer mesh that
    cameras see.
    """

    rest: NDArray[np.float64]  # (N, 3)
    triangles: NDArray[np.int32]  # (T, 3)
    labels: NDArray[np.int8]  # (T,), index into LABELS
    border: NDArray[np.int32]  # vertices on the flange, clamped to skull and jaw
    jaw_share: NDArray[np.float64]  # (N,), 0 moves with the skull .. 1 with the jaw
    detail: sp.csr_matrix  # (R, N)
    detail_triangles: NDArray[np.int32]  # (4 T, 3)
    detail_colours: NDArray[np.float32]  # (R, 3), sRGB
    parts: tuple[Part, ...]
    links: Mapping[str, Link]
    metres_per_u: float

    def triangles_of(self, *labels: str) -> NDArray[np.int32]:
        """Triangles with one of these labels, int32 [shape=(n, 3)]."""
        wanted = [LABELS.index(label) for label in labels]
        return self.triangles[np.isin(self.labels, wanted)]

    def vertices_of(self, *labels: str) -> NDArray[np.int32]:
        """Sorted vertices of those triangles."""
        return np.unique(self.triangles_of(*labels)).astype(np.int32)

    def near(self, landmarks: tuple[int, ...], radius: float) -> NDArray[np.int32]:
        """Skin vertices within `radius` (m) of any of these MediaPipe points, rims left out.

        The way is measured along the skin: the two lips lie against each other and are not near.
        """
        edges = self._outer_edges
        lengths = np.linalg.norm(self.rest[edges[:, 0]] - self.rest[edges[:, 1]], axis=1)
        graph = sp.csr_matrix((lengths, edges.T), shape=(len(self.rest),) * 2)
        way = dijkstra(graph, directed=False, indices=list(landmarks), limit=radius, min_only=True)
        return np.flatnonzero(way <= radius).astype(np.int32)

    @cached_property
    def _outer_edges(self) -> NDArray[np.int32]:
        outer = self.triangles[self.labels <= LABELS.index("lower_lip")]
        edges = np.concatenate([outer[:, [0, 1]], outer[:, [1, 2]], outer[:, [2, 0]]])
        return np.unique(np.sort(edges, axis=1), axis=0)


@lru_cache(maxsize=4)
def load_face(path: str | Path | None = None) -> Face:
    """The shipped face, or another one made by `assets/face/build_face.py`."""
    file = Path(path) if path is not None else assets.path("face", "face.safetensors")
    if not file.is_file():
        raise UsageError(
            "no face asset", where=file, hint="python assets/face/build_face.py makes the shipped one"
        )
    try:
        with safe_open(file, framework="numpy") as f:
            meta = json.loads(f.metadata()["face"])
            a = {key: f.get_tensor(key) for key in f.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise FaceTwinError(
            f"not a face asset ({error})", where=file, hint="build it again with assets/face/build_face.py"
        ) from None
    for array in a.values():
        array.flags.writeable = False
    rest = a["rest"]
    detail = sp.csr_matrix(
        (a["detail.data"].astype(np.float64), a["detail.indices"], a["detail.indptr"]),
        shape=(len(a["detail.indptr"]) - 1, len(rest)),
    )
    parts = tuple(
        Part(
            name,
            facts["link"],
            facts["gloss"],
            a[f"part.{name}.vertices"].astype(np.float64),
            a[f"part.{name}.triangles"],
            a[f"part.{name}.colours"],
            a.get(f"part.{name}.small"),
        )
        for name, facts in meta["parts"].items()
    )
    links = _parents_first(
        {name: Link(name, facts["parent"], np.array(facts["pivot"])) for name, facts in meta["links"].items()}
    )
    return Face(
        rest=rest,
        triangles=a["triangles"],
        labels=a["labels"],
        border=a["border"],
        jaw_share=a["jaw_share"].astype(np.float64),
        detail=detail,
        detail_triangles=a["detail.triangles"],
        detail_colours=a["detail.colours"],
        parts=parts,
        links=links,
        metres_per_u=meta["metres_per_u"],
    )


def _parents_first(links: dict[str, Link]) -> dict[str, Link]:
    def depth(name: str) -> int:
        return 0 if name not in links else 1 + depth(links[name].parent)

    return {name: links[name] for name in sorted(links, key=lambda n: (depth(n), n))}
