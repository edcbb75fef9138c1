import numpy as np
import pytest

from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.face import LABELS, load_face
from facetwin.twin.landmarks import SETS, canonical, mirror_index


@pytest.fixture(scope="module")
def face():
    return load_face()


def edges_of(triangles):
    e = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)
    return np.unique(e, axis=0, return_counts=True)


def test_the_skin_is_one_sheet_without_degenerate_triangles(face):
    edges, uses = edges_of(face.triangles)
    assert uses.max() == 2
    a, b, c = (face.rest[face.triangles[:, k]] for k in range(3))
    assert np.linalg.norm(np.cross(b - a, c - a), axis=1).min() > 1e-9
    # one border and three holes, the mouth and the eyes: V - E + F = 2 - 4
    assert len(face.rest) - len(edges) + len(face.triangles) == 2 - 4


def test_the_skin_is_its_own_mirror_image(face):
    from scipy.spatial import cKDTree

    distance, _ = cKDTree(face.rest).query(face.rest * (-1, 1, 1))
    assert distance.max() < 1e-12


def test_the_first_vertices_are_the_landmarks(face):
    scaled = canonical()[:468] * face.metres_per_u
    assert np.linalg.norm(face.rest[:468] - scaled, axis=1).mean() < 0.0015
    assert abs(face.rest[263, 0] - face.rest[33, 0] - face.metres_per_u) < 0.002


def test_lips_meet_at_rest_with_a_third_of_a_millimetre_between_them(face):
    gap = face.rest[[82, 13, 312], 1] - face.rest[[87, 14, 317], 1]
    assert np.allclose(gap, 0.0003, atol=1e-5)


def test_patches_do_not_jump_from_lip_to_lip(face):
    upper = face.near((13, 82, 312), 0.004)
    lower = face.vertices_of("lower_lip", "lower_rim")
    assert len(upper) > 3
    assert not set(upper.tolist()) & (set(lower.tolist()) - set(face.vertices_of("upper_lip").tolist()))


def test_detail_is_an_average_of_the_skin(face):
    assert np.allclose(face.detail.sum(1), 1, atol=1e-6)
    assert face.detail_triangles.max() < face.detail.shape[0]
    assert set(np.unique(face.labels)) == set(range(len(LABELS)))


def test_every_link_hangs_on_one_that_comes_before(face):
    known = {"body"}
    for name, link in face.links.items():
        assert link.parent in known
        known.add(name)
    assert {p.link for p in face.parts} <= known


def test_pairs_of_points_are_an_involution_and_sets_are_symmetric():
    m = mirror_index()
    assert (m[m] == np.arange(478)).all()
    for name in ("lips40", "face113", "speech63", "stable"):
        assert set(m[list(SETS[name])]) == set(SETS[name]), name


def test_no_asset_and_no_face_are_said_in_one_line(tmp_path):
    with pytest.raises(UsageError, match="no face asset"):
        load_face(tmp_path / "nothing.safetensors")
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(FaceTwinError, match="not a face asset"):
        load_face(bad)
