from __future__ import annotations

import re

import numpy as np
import pytest

from facetwin.twin.errors import FaceTwinError
from facetwin.twin.skin import Material
from facetwin.twin.skin.shell import build_shell, membrane
from facetwin.twin.skin.strip import bending_ratio


@pytest.fixture(scope="module")
def shell(skin_mesh):
    return build_shell(skin_mesh.rest, skin_mesh.triangles, Material())


@pytest.fixture(scope="module")
def bent(skin_mesh):
    return skin_mesh.rest + np.random.default_rng(0).normal(0, 2e-4, skin_mesh.rest.shape)


def stretches(shell, x, g):
    return membrane(x, shell.triangles, shell.slopes, shell.volumes, shell.material.shear, g)


def folds(shell, x, g):
    return shell.fold(x, g)


@pytest.mark.parametrize("energy", [stretches, folds])
def test_gradient_is_that_of_the_energy(shell, bent, energy):
    gradient, idle = np.zeros_like(bent), np.zeros_like(bent)
    energy(shell, bent, gradient)
    for seed in range(3):
        way = np.random.default_rng(seed).normal(0, 1, bent.shape)
        h = 1e-8
        slope = (energy(shell, bent + h * way, idle) - energy(shell, bent - h * way, idle)) / (2 * h)
        assert slope == pytest.approx((gradient * way).sum(), rel=1e-5)


def test_rest_bears_no_load_and_has_the_stiffness(shell, skin_mesh):
    gradient = np.zeros_like(skin_mesh.rest)
    assert shell.energy(skin_mesh.rest, gradient) == pytest.approx(0, abs=1e-12)
    assert np.abs(gradient).max() < 1e-10
    way = np.random.default_rng(1).normal(0, 1, gradient.shape)
    there, back = np.zeros_like(gradient), np.zeros_like(gradient)
    shell.energy(skin_mesh.rest + 1e-8 * way, there)
    shell.energy(skin_mesh.rest - 1e-8 * way, back)
    change = (there - back).ravel() / 2e-8
    assert np.abs(change - shell.stiffness() @ way.ravel()).max() < 1e-4 * np.abs(change).max()


def test_rigid_motion_costs_nothing(shell, bent):
    axis = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
    gradient, turned = np.zeros_like(bent), np.zeros_like(bent)
    e = shell.energy(bent, gradient)
    assert shell.energy(bent @ axis.T + 0.1, turned) == pytest.approx(e, rel=1e-9)
    assert turned == pytest.approx(gradient @ axis.T, abs=1e-7)


@pytest.mark.parametrize("rows", [21, 41, 81])
def test_strip_bends_and_stretches_like_a_beam(rows):
    bent, stretched = bending_ratio(rows, (rows - 1) // 4 + 1)
    assert bent == pytest.approx(1, abs=0.05)
    assert stretched == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("rows", [21, 41, 81])
@pytest.mark.parametrize("seed", [0, 1])
def test_irregular_strip_bends_like_a_beam_too(rows, seed):
    bent, stretched = bending_ratio(rows, (rows - 1) // 4 + 1, seed=seed)
    assert bent == pytest.approx(1, abs=0.05)
    assert stretched == pytest.approx(1, abs=0.03)


def test_thickness_of_some_triangles(skin_mesh, shell):
    thick = np.full(len(skin_mesh.triangles), Material().thickness)
    assert build_shell(skin_mesh.rest, skin_mesh.triangles, Material(), thick).springs == pytest.approx(
        shell.springs
    )
    thick[:10] *= 2
    other = build_shell(skin_mesh.rest, skin_mesh.triangles, Material(), thick)
    assert other.volumes[:10] == pytest.approx(2 * shell.volumes[:10])
    with pytest.raises(FaceTwinError, match="thickness"):
        build_shell(skin_mesh.rest, skin_mesh.triangles, Material(), -thick)


@pytest.mark.parametrize(
    ("triangles", "message"),
    [
        ([[0, 1, 9]], "out of range"),
        ([[0, 1, 1]], "flat triangle"),
        ([[0, 1, 2], [0, 1, 3]], "opposite ways"),
        ([[0, 1, 2], [1, 0, 3], [0, 1, 4]], "three triangles"),
        ([0, 1, 2], "not triangles"),
    ],
)
def test_bad_meshes_are_refused(triangles, message):
    rest = [[0, 0, 0], [0.01, 0, 0], [0, 0.01, 0], [0, -0.01, 0], [0, 0, 0.01]]
    with pytest.raises(FaceTwinError, match=message):
        build_shell(rest, triangles, Material())


def test_slits_loose_vertices_and_holes_are_refused(skin_mesh):
    rest, triangles = skin_mesh.rest, skin_mesh.triangles
    with pytest.raises(FaceTwinError, match="without a triangle"):
        build_shell(np.concatenate([rest, [[0.5, 0, 0]]]), triangles, Material())
    corner = triangles[0, 0]
    slit = triangles.copy()
    slit[0, 0] = len(rest)
    with pytest.raises(FaceTwinError, match="two vertices in one place"):
        build_shell(np.concatenate([rest, rest[corner : corner + 1]]), slit, Material())
    inside = np.argmin(np.linalg.norm(rest[triangles].mean(1) - rest[4], axis=1))
    with pytest.raises(FaceTwinError, match=r"holes where none may be.*openings.*expected 99") as whole:
        build_shell(rest, triangles, Material(), openings=99)
    with pytest.raises(FaceTwinError, match="holes where none may be") as holed:
        build_shell(rest, np.delete(triangles, inside, axis=0), Material(), openings=99)
    assert number(holed) == number(whole) + 1


def number(error):
    return int(re.search(r"(\d+) openings", str(error.value))[1])


@pytest.mark.parametrize("bad", [0.0, -1.0, np.inf])
def test_bad_stiffness_is_refused(bad):
    with pytest.raises(FaceTwinError, match=r"Material\.young"):
        Material(young=bad)


def test_bad_material_is_refused():
    with pytest.raises(FaceTwinError, match=r"Material\.young"):
        Material(young=float("nan"))
    with pytest.raises(FaceTwinError, match=r"Material\.thickness"):
        Material(thickness=-1e-3)
