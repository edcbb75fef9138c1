"""What the fast renderer draws: meshes of a face, with fewer triangles where pictures are small.

Built once for a face and a level of detail; cameras share it.
"""

from __future__ import annotations

import weakref
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from facetwin.twin import raster_kernels as kernels
from facetwin.twin import scene
from facetwin.twin.clusters import clusters
from facetwin.twin.face import Face

#: the skin's own triangles are drawn, not their quarters, where their edges are shorter than this, px
COARSE = 2.6
#: rigid parts have fewer triangles where a pixel covers more than this at the face, m
SMALL = 0.0015


class Model(NamedTuple):
    """What does not change from picture to picture. Vertices: R of the skin first, then link by link."""

    rows: NDArray[np.int32]  # sparse rows from the soft skin to the drawn one
    columns: NDArray[np.uint32]
    weights: NDArray[np.float32]
    skin: int  # triangles of the skin; they come first
    triangles: NDArray[np.uint32]  # (3, T)
    link_of: NDArray[np.uint8]  # (T,)
    kids: NDArray[np.uint32]  # (skin, 6): corners and edge middles among `tints`, or (0, 6)
    tints: NDArray[np.float32]  # (Q, 3), sRGB
    points: NDArray[np.float32]  # (3, V - R), rigid vertices in their links' frames
    spans: NDArray[np.int32]  # (links, 2), which of them are whose
    clusters: NDArray[np.int32]  # (C, 4), moving ones first; columns as in `raster_kernels`
    boxes: NDArray[np.float64]  # (C, 6), as in `facetwin.twin.clusters`
    cones: NDArray[np.float64]  # (C, 4)
    moving: int  # how many move
    skin_link: int


def links_of(face: Face) -> tuple[str, ...]:
    """Links in the order of the poses: first what stands still."""
    return (scene.STILL_LINK, *face.links)


def known_model(face: Face, pixel: float) -> tuple[Model, NDArray[np.float32]]:
    """Meshes of a face for pixels that cover `pixel` (m) of it, and the vertices' looks (see `Canvas`)."""
    key = (id(face), pixel > SMALL, _coarse(face, pixel))
    for old in [k for k, (owner, *_) in _known.items() if owner() is None]:
        _known.pop(old, None)
    if key not in _known:
        _known[key] = (weakref.ref(face), *_build(face, *key[1:]))
    return _known[key][1:]


#: (face, small parts, coarse skin) -> that face, its meshes and looks
_known: dict[tuple[int, bool, bool], tuple[weakref.ref[Face], Model, NDArray[np.float32]]] = {}


def _build(face: Face, small: bool, coarse: bool) -> tuple[Model, NDArray[np.float32]]:
    links = links_of(face)
    rows, triangles, kids = _skin(face, coarse)
    drawn, colours, meshes = rows.shape[0], scene.skin_colours(face), scene.link_meshes(face, small)
    sizes = [len(meshes[link].vertices) if link in meshes else 0 for link in links]
    stops = np.cumsum(sizes)
    spans = np.stack([stops - sizes, stops], 1).astype(np.int32)
    looks = np.zeros((drawn + stops[-1], 7), np.float32)
    looks[:drawn, :4] = colours[:drawn]
    points = np.zeros((3, stops[-1]), np.float32)
    for (start, stop), link in zip(spans, links):
        if link in meshes:
            looks[drawn + start : drawn + stop, :4] = meshes[link].colours
            looks[drawn + start : drawn + stop, 4:] = meshes[link].normals
            points[:, start:stop] = meshes[link].vertices.T
    pieces = clusters(meshes, kernels.GROUP)
    moving = [p for p in pieces if p.link != scene.STILL_LINK]
    pieces = moving + [p for p in pieces if p.link == scene.STILL_LINK]
    whose = [links.index(p.link) for p in pieces]
    ends = len(triangles) + np.cumsum([len(p.triangles) for p in pieces])
    skin_link = links.index(scene.SKIN_LINK)
    table = [(k, e - len(p.triangles), e, p.closed) for k, e, p in zip(whose, ends, pieces)]
    faces = [triangles, *(p.triangles + (drawn + spans[k, 0]) for k, p in zip(whose, pieces))]
    link_of = [np.full(len(triangles), skin_link)]
    link_of += [np.full(len(p.triangles), k) for k, p in zip(whose, pieces)]
    return Model(
        rows=rows.indptr.astype(np.int32),
        columns=rows.indices.astype(np.uint32),
        weights=rows.data.astype(np.float32),
        skin=len(triangles),
        triangles=np.ascontiguousarray(np.concatenate(faces).T.astype(np.uint32)),
        link_of=np.concatenate(link_of).astype(np.uint8),
        kids=kids,
        tints=np.ascontiguousarray(colours[:, :3]),
        points=points,
        spans=spans,
        clusters=np.array(table, np.int32).reshape(-1, 4),
        boxes=np.array([p.box for p in pieces], np.float64).reshape(-1, 6),
        cones=np.array([p.cone for p in pieces], np.float64).reshape(-1, 4),
        moving=len(moving),
        skin_link=skin_link,
    ), looks


def _coarse(face: Face, pixel: float) -> bool:
    """Whether the seen skin's parent is drawn in its place: in small pictures, where there is one."""
    t = face.triangles
    if len(face.detail_triangles) != 4 * len(t):
        return False
    edge = np.linalg.norm(face.rest[t[:, 0]] - face.rest[t[:, 1]], axis=1).mean()
    if edge / pixel > COARSE:
        return False
    a, b, c, d = face.detail_triangles.reshape(-1, 4, 3).transpose(1, 0, 2)
    return (
        np.array_equal(np.stack([a[:, 0], b[:, 1], c[:, 2]], 1), t)
        and np.array_equal(np.stack([a[:, 1], b[:, 2], c[:, 0]], 1), d)
        and np.array_equal(np.stack([b[:, 0], c[:, 1], a[:, 2]], 1), d)
    )


def _skin(face: Face, coarse: bool) -> tuple[sp.csr_matrix, NDArray[np.int32], NDArray[np.uint32]]:
    """Rows and triangles of the drawn skin, and the quarters that its colours are looked up in.

    The coarse one has the seen mesh's places at its own corners, and its colours at its edges' middles, too.
    """
    if not coarse:
        return face.detail.tocsr(), face.detail_triangles, np.zeros((0, 6), np.uint32)
    t, middles = face.triangles, face.detail_triangles[3::4]
    return face.detail.tocsr()[: len(face.rest)], t, np.concatenate([t, middles], 1).astype(np.uint32)
