"""The lip crop and the camera of lips: same crop whichever way, and what a crop must not depend on."""

import numpy as np
import pytest
import torch

from facetwin.policies.babble import key_pose, mixed
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.face import load_face
from facetwin.twin.landmarks import canonical
from facetwin.twin.lip_camera import LipCamera
from facetwin.twin.lip_crop import MIDDLE, SIDE, SIZE, cut, lip_crop, lip_frame
from facetwin.twin.raster import RasterCamera
from facetwin.twin.spec import load_rig

pytestmark = pytest.mark.sim


@pytest.fixture(scope="module")
def spec():
    return load_rig()


@pytest.fixture(scope="module")
def camera(spec):
    with LipCamera(spec) as made:
        yield made


@pytest.fixture(scope="module")
def commands(spec):
    source = mixed(spec, np.random.default_rng(3))
    return np.array(
        [spec.rest, key_pose(spec, "ah"), key_pose(spec, "oo"), *(next(source) for _ in range(9))]
    )


def pixels(scale: float, turn: float, shift: complex) -> np.ndarray:
    """The canonical face in a picture: px (478, 2), y down."""
    at = (canonical()[:, 0] + 1j * canonical()[:, 1]) * scale * np.exp(1j * turn) + shift
    return np.stack([at.real, -at.imag], 1)


@pytest.mark.parametrize(("scale", "turn"), [(90, 0.0), (40, 0.4), (300, -1.2)])
def test_the_frame_follows_place_size_and_turn(scale, turn):
    frame = lip_frame(pixels(scale, turn, 120 - 90j))
    middle = frame @ (SIZE / 2, SIZE / 2, 1)
    wanted = complex(*MIDDLE) * scale * np.exp(1j * turn) + (120 - 90j)
    assert np.allclose(middle, (wanted.real, -wanted.imag), atol=1e-6 * scale)
    assert np.isclose(np.hypot(frame[0, 0], frame[1, 0]), scale * SIDE / SIZE)


def test_an_opening_mouth_does_not_move_the_crop():
    from facetwin.twin.landmarks import indices

    shut, wide = pixels(90, 0.1, 100 + 0j), pixels(90, 0.1, 100 + 0j)
    wide[indices("speech63")] += (3.0, 20.0)
    assert np.array_equal(lip_frame(shut), lip_frame(wide))


def test_a_crop_of_a_plain_slope_is_that_slope():
    y, x = np.mgrid[:200, :240]
    picture = np.repeat((x * 0.5 + y * 0.4).astype(np.uint8)[..., None], 3, 2)
    frame = np.array([[0.8, 0.1, 40.0], [-0.1, 0.8, 60.0]])
    v, u = np.mgrid[:SIZE, :SIZE] + 0.5
    at = frame @ np.stack([u.ravel(), v.ravel(), np.ones(SIZE**2)])
    wanted = ((at[0] - 0.5) * 0.5 + (at[1] - 0.5) * 0.4).reshape(SIZE, SIZE)
    assert np.abs(cut(picture[None], frame[None])[0, ..., 0] - wanted).max() <= 1.5


def test_the_camera_shows_what_lip_crop_cuts_from_the_whole_picture(camera, spec, commands):
    views = camera.see(commands)
    face = load_face()
    with torch.no_grad():
        shapes = camera._fast(torch.from_numpy(commands)).vertices.numpy()
    poses = camera._kinematics.poses(commands)
    seen = camera._project(camera._points(shapes, poses), poses["skull"])
    with RasterCamera(face, spec.cameras["mirror"]) as whole:
        pictures = whole.render_batch(shapes, poses)
    for picture, points, crop in zip(pictures, seen, views.crops):
        apart = np.abs(lip_crop(picture, points, mirrored=True).astype(int) - crop)
        assert apart.max() <= 3  # rounding of a few corners by 1/256 px
        assert apart.mean() < 0.01


def test_batches_threads_and_single_looks_agree(camera, spec, commands):
    views = camera.see(commands)
    assert len(views) == len(commands)
    for k in (0, 5):
        assert np.array_equal(camera.see(commands[k : k + 1]).crops[0], views.crops[k])
    with LipCamera(spec, threads=2) as other:
        assert np.array_equal(other.see(commands).crops, views.crops)


def test_shapes_and_commands_show_the_same(camera, commands):
    views = camera.see(commands)
    with torch.no_grad():
        shapes = camera._fast(torch.from_numpy(commands)).vertices.numpy()
    other = camera.show(shapes, camera._kinematics.poses(commands))
    assert np.array_equal(other.crops, views.crops)
    assert np.array_equal(other.landmarks, views.landmarks)
    assert np.abs(other.gap_mm - views.gap_mm).max() < 1.5  # the net's reading of it


def test_a_shut_mouth_has_no_gap_and_an_open_one_is_dark(camera, commands):
    views = camera.see(commands)
    assert views.gap_mm[0] < 0.5
    assert views.gap_mm[1] > 8
    assert views.crops[1, 60:90, 60:68].min() < 20  # "ah"


def test_turning_the_head_moves_the_crop_little(camera, spec):
    turned = np.tile(spec.rest, (2, 1))
    turned[1, spec.index("neck_roll")] += 0.2
    a, b = camera.see(turned).crops.astype(int)
    assert np.abs(a - b)[:, 20:108].mean() < 6  # of 255: light and edges, not place


def test_noise_repeats_with_its_seed(spec, commands):
    def look(seed):
        with LipCamera(spec, noise=True, unsteady=0.01, seed=seed) as eye:
            return eye.see(commands[:3]).crops

    assert np.array_equal(look(1), look(1))
    assert not np.array_equal(look(1), look(2))


def test_what_is_asked_wrongly_is_said(camera, spec):
    with pytest.raises(FaceTwinError, match="not commands"):
        camera.see(np.zeros((2, 5)))
    with pytest.raises(FaceTwinError, match="not commands"):
        camera.see(np.full((1, spec.size), np.nan))
    with pytest.raises(UsageError, match="solver"):
        LipCamera(spec, solver="linear")
    with pytest.raises(FaceTwinError, match="not landmarks"):
        lip_crop(np.zeros((9, 9, 3), np.uint8), np.zeros((5, 2)))
    with pytest.raises(FaceTwinError, match="not finite"):
        lip_crop(np.zeros((9, 9, 3), np.uint8), np.full((478, 2), np.nan))
    with pytest.raises(FaceTwinError, match="not a picture"):
        lip_crop(np.zeros((9, 9)), np.zeros((478, 2)))
