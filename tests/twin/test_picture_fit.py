"""Camera, light and horns by pixels: the round trip on pictures of another rig, and another face refused."""

from __future__ import annotations

import numpy as np
import pytest

from facetwin.cli.calibration_film import rest_views, views_of
from facetwin.twin.calibration import picture_fit
from facetwin.twin.calibration.picture_fit import Stage, Views, fit_pictures
from facetwin.twin.face import load_face
from facetwin.twin.raster import RasterCamera
from facetwin.twin.spec import load_rig
from facetwin.twin.twin import FaceTwin

pytestmark = pytest.mark.sim

FACE, RIG = load_face(), load_rig("face26")
CAMERA = {"position_error.0": 0.008, "rotation_error.2": 0.02, "exposure": 0.8, "light.direction.0": 0.3,
          "light.ambient": 0.42, "background.0": 0.6}  # fmt: skip
HORNS = {"neck_yaw.trim": 0.06, "right_eye_yaw.trim": -0.08, "left_upper_lid.trim": -0.06,
         "jaw.trim": 0.04, "right_corner_stretch.trim": 0.05}  # fmt: skip
OTHER = RIG.with_(
    {f"camera.mirror.{k}": v for k, v in CAMERA.items()} | {f"motor.{k}": v for k, v in HORNS.items()}
)
COARSE = (Stage(64, 2.0, 0.4, 12), Stage(192, 2.0, 0.1, 6))


def film(rig, positions, size=(128, 128)):
    with FaceTwin(rig) as twin, RasterCamera(FACE, rig.cameras["mirror"], size=size) as camera:
        states = [twin.move(p) for p in positions]
        return np.array([camera.render(s.vertices, s.poses) for s in states])


def rest(rig):
    return np.array([m.rest_command + m.trim / m.span for m in rig.motors])


@pytest.fixture(scope="module")
def found():
    picture = film(OTHER, [rest(OTHER)], (192, 192))[0]
    return fit_pictures(rest_views(picture.astype(float), RIG), RIG, RIG, FACE, stages=COARSE)


def test_a_face_at_rest(found):
    assert found.alike
    assert found.after < 0.04 * found.before
    for key, value in CAMERA.items():
        # where a camera stands and how the head is turned share what one picture shows of both
        wide = 0.012 if "error" in key else 0.05
        assert found.changes[f"camera.mirror.{key}"] == pytest.approx(value, abs=wide), key
    for key, value in HORNS.items():
        assert found.changes[f"motor.{key}"] == pytest.approx(value, abs=0.025), key
    others = [abs(found.changes[f"motor.{n}.trim"]) for n in RIG.names if f"{n}.trim" not in HORNS]
    assert np.mean(others) < 0.015


def test_a_face_at_rest_shows_no_scale(found):
    scales = {key: v for key, v in found.changes.items() if key.endswith(".scale")}
    assert len(scales) == RIG.size
    assert all(v == 1.0 for v in scales.values())
    assert all(found.known[key] == pytest.approx(1.0, abs=1e-6) for key in scales)


def test_the_same_twin_stays():
    views = rest_views(film(RIG, [RIG.rest])[0].astype(float), RIG)
    found = fit_pictures(views, RIG, RIG, FACE, stages=(Stage(128, 2.0, 0.2, 2),))
    assert found.before == pytest.approx(0.0, abs=1e-6)
    assert found.after <= found.before + 1e-6
    assert found.changes["camera.mirror.exposure"] == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("what", ["other colours", "white", "noise"])
def test_another_face_is_told(what):
    size = (64, 64, 3)
    picture = {
        "other colours": 255.0 - film(OTHER, [rest(OTHER)], size[:2])[0, :, :, ::-1],
        "white": np.full(size, 255.0),
        "noise": np.random.default_rng(0).uniform(0, 255, size),
    }[what]
    found = fit_pictures(rest_views(picture, RIG), RIG, RIG, FACE, stages=(Stage(64, 2.0, 0.4, 6),))
    assert not found.alike
    RIG.with_(found.changes)


def test_scale_in_motion():
    """Pictures of a rig whose jaw and right brow go other ways; the fit begins with right everything else."""
    names, true = ("jaw", "right_inner_brow"), (1.15, 0.85)
    at = [RIG.index(name) for name in names]
    levers = np.zeros((4, RIG.size))
    levers[:, at] = ((0.4, -0.4), (0.1, 0.4), (0.3, 0.2), (0.0, -0.2))  # one way only, a trim would do
    scales = np.ones(RIG.size)
    scales[at] = true
    pictures = film(RIG, RIG.rest + levers * scales) / 255.0
    rig, off = RIG, []
    for _ in range(2):
        now = np.array([m.scale for m in rig.motors])
        views = views_of(pictures, rig, RIG.rest + levers * now, levers)
        found = fit_pictures(views, RIG, rig, FACE, stages=(Stage(128, 1.5, 0.1, 4),))
        off.append(found.after)
        rig = rig.with_({k: v for k, v in found.changes.items() if k.endswith(".scale")})
    assert off[0] < 0.3 * film_apart(pictures, levers)
    assert [rig.motors[i].scale for i in at] == pytest.approx(true, abs=0.03)


def film_apart(pictures, levers):
    own = film(RIG, RIG.rest + levers) / 255.0
    return float(np.sqrt(((own - pictures) ** 2).mean()))


@pytest.mark.parametrize("key", ["motor.right_corner_stretch.pull.stiffness", "anchor.nose.stiffness"])
def test_patch_lags_act_as_stiffness(key):
    """What an e-fold of a patch's stiffness does to the skin, to first order, against two exact skins."""
    position = RIG.rest.copy()
    position[RIG.index("right_corner_stretch")] += 0.15
    position[RIG.index("upper_lip_raise")] += 0.2

    def shape(factor):
        with FaceTwin(RIG.with_({f"{key}.factor": factor}), tolerance=1e-6) as twin:
            return twin.move(position).vertices

    exact = (shape(1.1) - shape(1 / 1.1)) / (2 * np.log(1.1))
    views = views_of(np.zeros((1, 8, 8, 3)), RIG, position[None], np.zeros((1, RIG.size)), skin=True)
    about = views.shapes[0, views.keys.index(key)]
    moved = np.linalg.norm(exact, axis=1).max()
    assert moved > 1e-5
    assert (exact * about).sum() / np.linalg.norm(exact) / np.linalg.norm(about) > 0.9
    assert np.linalg.norm(about) == pytest.approx(np.linalg.norm(exact), rel=0.35)


def test_pictures_of_any_size():
    for size in ((100, 75), (75, 100)):
        picture = film(RIG, [RIG.rest], size)[0].astype(float)
        found = fit_pictures(rest_views(picture, RIG), RIG, RIG, FACE, stages=(Stage(48, 2.0, 0.4, 1),))
        assert found.after < 0.02


def test_slopes_are_those_of_the_cost():
    """The right side of a step falls with the cost, as differences of the cost itself say."""
    picture = film(OTHER, [rest(OTHER)])[0].astype(float)
    scene = picture_fit._Scene(rest_views(picture, RIG), RIG, RIG, FACE, "mirror")
    scene.focus(Stage(64, 2.0, 0.4, 1))
    z = scene.begin()
    _, matrix, right = scene.normal(z)
    assert np.linalg.eigvalsh(matrix).min() > 0
    for k in (7, 8, 9, 11, len(picture_fit.KEYS) + RIG.index("neck_yaw")):
        step = np.zeros(len(z))
        step[k] = 0.02
        slope = (scene.cost(z + step) - scene.cost(z - step)) / 0.04
        assert -right[k] == pytest.approx(slope, rel=0.1, abs=1e-2)


def test_nothing_but_pictures_is_asked():
    views = rest_views(film(RIG, [RIG.rest])[0].astype(float), RIG)
    assert isinstance(views, Views)
    assert views.shapes.shape[:2] == (1, 0)
    assert not views.levers.any()
