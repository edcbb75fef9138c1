"""The fast renderer: what it covers, that a batch is its pictures, and that pyrender says the same."""

from __future__ import annotations

import dataclasses
import os
import resource
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import pytest

from facetwin.policies.babble import key_pose, mixed
from facetwin.twin import camera as cameras
from facetwin.twin.camera import Camera, NoGL, open_camera
from facetwin.twin.clusters import clusters, is_closed
from facetwin.twin.couplings import Couplings
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.face import load_face
from facetwin.twin.raster import RasterCamera
from facetwin.twin.scene import link_meshes
from facetwin.twin.spec import load_rig
from facetwin.twin.tracker import Tracker
from facetwin.twin.twin import FaceTwin

pytestmark = pytest.mark.sim


@pytest.fixture(scope="module")
def spec():
    return load_rig()


@pytest.fixture(scope="module")
def lens(spec):
    return spec.cameras["mirror"]


@pytest.fixture(scope="module")
def face():
    return load_face()


@pytest.fixture(scope="module")
def states(spec):
    """Rest, an open mouth and ten babbled postures."""
    rules = Couplings(spec)
    commands = [spec.rest, key_pose(spec, "ah")]
    commands += [rules.project(c) for c in islice(mixed(spec, np.random.default_rng(5)), 10)]
    with FaceTwin(spec, solver="linear") as twin:
        return [twin.move(c, fresh=True) for c in commands]


@pytest.fixture
def fast(face, lens):
    with RasterCamera(face, lens, size=(64, 64), samples=1) as made:
        yield made


def stacked(states):
    links = states[0].poses
    return np.stack([s.vertices for s in states]), {k: np.stack([s.poses[k] for s in states]) for k in links}


def flat(face, corners, colour=(1.0, 0.0, 0.0)):
    """A face that is one triangle, at these corners [shape=(3, 3), m], with nothing around it."""
    import scipy.sparse as sp

    corners = np.asarray(corners, float)
    return dataclasses.replace(
        face,
        rest=corners,
        triangles=np.array([[0, 1, 2]], np.int32),
        labels=np.zeros(1, np.int8),
        detail=sp.eye(3, format="csr"),
        detail_triangles=np.array([[0, 1, 2]], np.int32),
        detail_colours=np.tile(np.array(colour, np.float32), (3, 1)),
        parts=(),
    )


# -- what is covered ---------------------------------------------------------------------------------------


def project(lens, points, size):
    """Pixel places of points, by the definition of the camera."""
    depth = 2 * lens.distance - points[..., 2]
    focal = size / 2 / np.tan(lens.vertical_fov / 2)
    x = size / 2 - points[..., 0] * focal / depth  # the mirror flips it
    y = size / 2 - (points[..., 1] - lens.elevation) * focal / depth
    return np.stack([x, y], -1)


def inside(corners, points):
    def side(a, b):
        return (b[0] - a[0]) * (points[..., 1] - a[1]) - (b[1] - a[1]) * (points[..., 0] - a[0])

    sides = np.stack([side(corners[k], corners[(k + 1) % 3]) for k in range(3)])
    return (sides > 0).all(0) | (sides < 0).all(0), np.abs(sides).min(0)


@pytest.mark.parametrize("size", [17, 64, 101])
def test_a_known_triangle_covers_the_right_pixels(face, lens, size):
    rng = np.random.default_rng(size)
    for _ in range(20):
        corners = rng.uniform(-0.15, 0.15, (3, 3)) * (1, 1, 0.5) + (0, lens.elevation, 0)
        with RasterCamera(flat(face, corners), lens, size=(size, size), samples=1) as camera:
            seen = camera.render(corners, {})
        empty = np.round(np.array(lens.background) * 255)
        drawn = np.abs(seen - empty).max(-1) > 2
        where = np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1) + 0.5
        wanted, doubt = inside(project(lens, corners, size), where)
        assert (drawn == wanted)[doubt > 0.02 * size].all()


def test_neighbours_leave_no_gap_and_do_not_overlap(face, lens):
    # a fan of thin triangles round a point, much smaller than pixels at its hub: every sample is hit once
    n = 400
    turn = np.linspace(0, 2 * np.pi, n, endpoint=False)
    ring = np.stack([0.1 * np.cos(turn), 0.1 * np.sin(turn) + lens.elevation, 0 * turn], 1)
    rest = np.vstack([ring, [[0.0003, lens.elevation + 0.0002, 0.0]]])
    triangles = np.stack([np.arange(n), (np.arange(n) + 1) % n, np.full(n, n)], 1).astype(np.int32)
    import scipy.sparse as sp

    fan = dataclasses.replace(
        face, rest=rest, triangles=triangles, detail=sp.eye(n + 1, format="csr"), detail_triangles=triangles,
        detail_colours=np.ones((n + 1, 3), np.float32), parts=(),
    )  # fmt: skip
    for samples in (1, 4):
        with RasterCamera(fan, lens, size=(64, 64), samples=samples) as camera:
            camera.render(rest, {})
            drawn = (camera._canvas.owner >= 0).reshape(64, samples, 64).swapaxes(0, 1)
        where = np.stack(np.meshgrid(np.arange(64), np.arange(64)), -1) + 0.5
        radius = np.linalg.norm(where - project(lens, np.array([0, lens.elevation, 0.0]), 64), axis=-1)
        reach = 0.1 * 32 / np.tan(lens.vertical_fov / 2) / (2 * lens.distance)
        assert drawn[:, radius < reach - 1.5].all()
        assert not drawn[:, radius > reach + 1.5].any()


def test_the_nearer_one_is_seen(face, lens):
    import scipy.sparse as sp

    big = np.array([[-1, -1, 0], [1, -1, 0], [0, 1, 0]]) * 0.08 + (0, lens.elevation, 0)
    for front in (0, 1):
        nearer = np.array((0, 0, 0.02))
        rest = np.vstack([big + nearer * (front == 0), big + nearer * (front == 1)])
        triangles = np.array([[0, 1, 2], [3, 4, 5]], np.int32)
        colours = np.repeat(np.eye(3, dtype=np.float32)[:2], 3, 0)  # red, green
        two = dataclasses.replace(
            face, rest=rest, triangles=triangles, detail=sp.eye(6, format="csr"), detail_triangles=triangles,
            detail_colours=colours, parts=(),
        )  # fmt: skip
        with RasterCamera(two, lens, size=(32, 32), samples=4) as camera:
            middle = camera.render(rest, {})[16, 16].astype(int)
        assert middle[front] > middle[1 - front] + 50


def test_parts_left_out_change_no_sample(face, lens, states, monkeypatch):
    from facetwin.twin import raster_model

    for samples, size in ((1, 64), (4, 96)):
        with RasterCamera(face, lens, size=(size, size), samples=samples) as camera:
            usual = [camera.render(s.vertices, s.poses) for s in states[:4]]
        # one cluster a part, no cone, a box as large as the room: nothing can be left out
        room, every_way = np.array([0, 0, 0, 5.0, 5, 5]), np.array([0, 0, 1, 2.0])
        whole = [
            dataclasses.replace(c, box=room, cone=every_way, closed=False)
            for c in clusters(link_meshes(face, small=True), 32)
        ]
        with monkeypatch.context() as patch:
            patch.setattr(raster_model, "clusters", lambda *_, whole=whole: whole)
            patch.setattr(raster_model, "_known", {})
            with RasterCamera(face, lens, size=(size, size), samples=samples) as camera:
                all_drawn = [camera.render(s.vertices, s.poses) for s in states[:4]]
        for a, b in zip(usual, all_drawn):
            assert (a == b).all()


def test_closed_surfaces_are_told_from_open_ones():
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])
    shut = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]], np.int32)
    assert is_closed(corners, shut)
    assert not is_closed(corners, shut[:3])
    assert not is_closed(corners, np.vstack([shut[:3], shut[3:, ::-1]]))


# -- pictures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 4])
def test_a_batch_gives_the_bits_of_its_pictures(face, lens, states, samples):
    vertices, poses = stacked(states)
    with RasterCamera(face, lens, size=(64, 64), samples=samples) as camera:
        batch = camera.render_batch(vertices, poses)
        again = camera.render_batch(vertices[::-1], {k: v[::-1] for k, v in poses.items()})[::-1]
        single = [camera.render(s.vertices, s.poses) for s in states]
    with RasterCamera(face, lens, size=(64, 64), samples=samples) as other:
        out = np.zeros_like(batch)
        assert other.render_batch(vertices, poses, out=out) is out
    assert batch.shape == (len(states), 64, 64, 3)
    assert (batch == again).all()
    assert (batch == np.stack(single)).all()
    assert (batch == out).all()


def test_a_body_that_moves_within_a_batch_moves_the_shoulders(fast, states):
    vertices, poses = stacked(states[:3])
    body = np.tile(np.eye(4), (3, 1, 1))
    body[1, 0, 3] = 0.03
    batch = fast.render_batch(vertices, {**poses, "body": body})
    for k in range(3):
        alone = fast.render(vertices[k], {**states[k].poses, "body": body[k]})
        assert (batch[k] == alone).all()
    assert (batch[0, -1] != batch[1, -1]).any()


def test_a_symmetric_face_makes_a_symmetric_picture(face, lens, spec, states):
    straight = dataclasses.replace(lens, light=dataclasses.replace(lens.light, direction=(0.0, 0.6, 1.0)))
    for samples, few in ((1, 0.06), (4, 0.03)):
        with RasterCamera(face, straight, size=(128, 128), samples=samples) as camera:
            seen = camera.render(face.rest, states[0].poses).astype(int)
        apart = np.abs(seen - seen[:, ::-1]).max(-1)
        assert np.median(apart) == 0
        assert (apart > 24).mean() < few  # edges, irises and brows


def test_pictures_are_flipped_by_the_mirror(face, lens, states):
    plain = dataclasses.replace(lens, mirror=False, distance=2 * lens.distance)
    a = RasterCamera(face, lens, size=(64, 64)).render(states[3].vertices, states[3].poses).astype(int)
    b = RasterCamera(face, plain, size=(64, 64)).render(states[3].vertices, states[3].poses).astype(int)
    assert np.abs(a - b[:, ::-1]).mean() < 0.2


def test_small_pictures_with_fewer_triangles_look_the_same(face, lens, states, monkeypatch):
    from facetwin.twin import raster_model

    usual = RasterCamera(face, lens, size=(64, 64))
    monkeypatch.setattr(raster_model, "COARSE", 0.0)
    fine = RasterCamera(face, lens, size=(64, 64))
    assert usual._model.skin * 4 == fine._model.skin
    for s in states[:3]:
        apart = np.abs(usual.render(s.vertices, s.poses).astype(int) - fine.render(s.vertices, s.poses))
        assert apart.mean() < 0.5


def drawn_with(face, lens, states, size, samples, monkeypatch, limit):
    from facetwin.twin import raster_model

    with monkeypatch.context() as patch:
        patch.setattr(raster_model, "SMALL", limit)
        with RasterCamera(face, lens, size=(size, size), samples=samples) as camera:
            return np.stack([camera.render(s.vertices, s.poses) for s in states]).astype(int)


@pytest.mark.parametrize(("size", "samples"), [(64, 1), (64, 4), (128, 4)])
def test_small_pictures_with_lighter_parts_look_the_same(face, lens, states, monkeypatch, size, samples):
    assert sum(len(p.small) for p in face.parts if p.small is not None) < 0.4 * sum(
        len(p.triangles) for p in face.parts if p.small is not None
    )
    full = drawn_with(face, lens, states, size, samples, monkeypatch, 1.0)
    light = drawn_with(face, lens, states, size, samples, monkeypatch, 0.0)
    usual = drawn_with(face, lens, states, size, samples, monkeypatch, 0.0015)
    assert (usual == light).all()
    apart = np.abs(full - light)
    assert apart.mean() < 1.0
    assert (apart.max(-1) > 40).mean() < 0.005
    # outlines: everything white before black
    white = dataclasses.replace(
        face,
        parts=tuple(dataclasses.replace(p, colours=np.ones_like(p.colours)) for p in face.parts),
        detail_colours=np.ones_like(face.detail_colours),
    )
    dark = dataclasses.replace(lens, background=(0.0, 0.0, 0.0))
    a, b = (
        drawn_with(white, dark, states, size, samples, monkeypatch, limit).max(-1) > 64
        for limit in (1.0, 0.0)
    )
    for one, other in zip(a, b):
        assert (one & other).sum() / (one | other).sum() > 0.99


def test_opengl_sees_the_same_in_small_pictures(face, lens, states, monkeypatch):
    """Lighter parts are no farther from OpenGL's picture than full ones by a grey level."""
    with open_camera(face, lens, size=(64, 64)) as slow:
        assert isinstance(slow, Camera)
        fine = np.stack([slow.render(s.vertices, s.poses) for s in states]).astype(int)
    full = drawn_with(face, lens, states, 64, 4, monkeypatch, 1.0)
    light = drawn_with(face, lens, states, 64, 4, monkeypatch, 0.0)
    assert np.abs(fine - light).mean() < np.abs(fine - full).mean() + 1.0


def test_lighter_parts_are_made_of_the_vertices_and_stay_near(face):
    import trimesh

    for part in face.parts:
        if part.small is None:
            assert len(part.triangles) <= 200
            continue
        assert part.small.max() < len(part.vertices)
        assert len(np.unique(part.small, axis=0)) == len(part.small)
        light = trimesh.Trimesh(part.vertices, part.small, process=False)
        _, distance, _ = trimesh.proximity.closest_point_naive(light, part.vertices[::7])
        assert np.sqrt((distance**2).mean()) < 0.0005
        assert distance.max() < 0.004
        assert is_closed(part.vertices, part.triangles) == is_closed(part.vertices, part.small)


def test_a_camera_beside_another_draws_the_same(face, lens, states):
    other = dataclasses.replace(lens, distance=1.1 * lens.distance, exposure=0.8, rotation_error=(0, 0, 0.05))
    vertices, poses = stacked(states)
    with RasterCamera(face, other, size=(64, 64), samples=1) as alone:
        wanted = alone.render_batch(vertices, poses)
    first = RasterCamera(face, lens, size=(64, 64), samples=1)
    second = RasterCamera(face, other, size=(64, 64), samples=1, beside=first)
    usual = first.render_batch(vertices, poses)
    for _ in range(2):  # in turns
        assert (second.render_batch(vertices, poses) == wanted).all()
        assert (first.render_batch(vertices, poses) == usual).all()
    assert (usual != wanted).any()


def test_large_triangles_and_pictures_with_one_sample(face, lens):
    """Wider ones than the short numbers hold, and faces partly outside the picture."""
    for scale, size in ((3.0, 64), (3.0, 700)):
        corners = scale * np.array([[-0.2, -0.2, 0.0], [0.25, -0.1, 0.02], [0.0, 0.2, -0.03]])
        where = np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1) + 0.5
        with RasterCamera(flat(face, corners), lens, size=(size, size), samples=1) as camera:
            seen = camera.render(corners, {})
        drawn = np.abs(seen - np.round(np.array(lens.background) * 255)).max(-1) > 2
        wanted, doubt = inside(project(lens, corners, size), where)
        assert (drawn == wanted)[doubt > 0.02 * size].all()


def test_float32_vertices_will_do(fast, states):
    a = fast.render(states[2].vertices.astype(np.float32), states[2].poses)
    assert (a == fast.render(states[2].vertices, states[2].poses)).all()


def test_it_works_after_a_fork(fast, states):
    wanted = fast.render(states[1].vertices, states[1].poses)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            same = (fast.render(states[1].vertices, states[1].poses) == wanted).all()
            os.write(write, b"y" if same else b"n")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    assert os.read(read, 1) == b"y"
    os.close(read)


def test_two_cameras_in_two_threads_do_not_disturb_each_other(face, lens, states):
    vertices, poses = stacked(states)
    made = [RasterCamera(face, lens, size=(64, 64), samples=1) for _ in range(2)]
    wanted = made[0].render_batch(vertices, poses)
    with ThreadPoolExecutor(2) as pool:
        for seen in pool.map(lambda k: made[k % 2].render_batch(vertices, poses), (0, 1)):
            assert (seen == wanted).all()


def test_memory_does_not_grow(fast, states):
    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    for s in states:
        fast.render(s.vertices, s.poses)
    before = peak()
    for k in range(2000):
        fast.render(states[k % len(states)].vertices, states[k % len(states)].poses)
    assert peak() - before < 1024  # KiB


# -- bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(0, 64), (64, -1), (5000, 64), (64.0, 64), (64,)])
def test_bad_sizes(face, lens, size):
    with pytest.raises(UsageError, match="no such picture size"):
        RasterCamera(face, lens, size=size)


def test_bad_samples_and_renderers(face, lens):
    with pytest.raises(UsageError, match="cannot sample like that"):
        RasterCamera(face, lens, samples=3)
    with pytest.raises(UsageError, match="unknown renderer"):
        open_camera(face, lens, renderer="best")


def test_bad_vertices_and_poses(fast, face, states):
    poses = states[0].poses
    for bad in (np.nan, np.inf, -np.inf, 1e30):
        vertices = face.rest.copy()
        vertices[7, 1] = bad
        with pytest.raises(FaceTwinError, match="not finite") as caught:
            fast.render(vertices, poses)
        assert "\n" not in str(caught.value)
    with pytest.raises(FaceTwinError, match="not the vertices of this face"):
        fast.render(face.rest[:-1], poses)
    with pytest.raises(FaceTwinError, match="not the vertices of this face"):
        fast.render(face.rest[None], poses)
    with pytest.raises(FaceTwinError, match="poses are not finite"):
        fast.render(face.rest, {**poses, "jaw": np.full((4, 4), np.nan)})
    with pytest.raises(FaceTwinError, match="not a pose"):
        fast.render(face.rest, {**poses, "jaw": np.eye(3)})
    with pytest.raises(FaceTwinError, match="cannot draw into that"):
        fast.render_batch(face.rest[None], poses, out=np.zeros((1, 64, 64, 3)))
    fast.render(face.rest, poses)  # and it still works


def test_a_face_at_the_lens_is_refused(face, lens, states):
    close = dataclasses.replace(lens, distance=0.02)
    camera = RasterCamera(face, close, size=(64, 64))
    with pytest.raises(FaceTwinError, match="reaches the lens"):
        camera.render(face.rest, states[0].poses)


def test_closed_is_closed(face, lens):
    camera = RasterCamera(face, lens, size=(16, 16))
    camera.close()
    camera.close()
    with pytest.raises(FaceTwinError, match="closed"):
        camera.render(face.rest, {})


# -- beside OpenGL -----------------------------------------------------------------------------------------


def test_without_gl_the_fast_one_serves_and_says_so_once(face, lens, monkeypatch, caplog):
    def no_gl(*_, **__):
        raise NoGL("no OpenGL through EGL", where="camera")

    monkeypatch.setattr(cameras, "Camera", no_gl)
    monkeypatch.setattr(cameras, "_said_no_gl", False)
    for _ in range(2):
        assert isinstance(open_camera(face, lens, size=(16, 16)), RasterCamera)
    assert len(caplog.records) == 1
    assert "fast renderer" in caplog.text


def test_opengl_draws_the_same(face, lens, states):
    with open_camera(face, lens, size=(128, 128)) as slow:
        assert isinstance(slow, Camera)
        fine = [slow.render(s.vertices, s.poses) for s in states[:5]]
    fast = open_camera(face, lens, size=(128, 128), renderer="fast")
    for s, a in zip(states, fine):
        apart = np.abs(a.astype(int) - fast.render(s.vertices, s.poses)).max(-1)
        assert apart.mean() < 2
        assert np.median(apart) <= 1


def test_silhouettes_overlap(face, lens, states):
    white = dataclasses.replace(face, parts=(), detail_colours=np.ones_like(face.detail_colours))
    dark = dataclasses.replace(lens, background=(0.0, 0.0, 0.0))
    with Camera(white, dark, size=(256, 256)) as slow:
        fine = [slow.render(s.vertices, s.poses).max(-1) > 96 for s in states[1:4]]
    fast = RasterCamera(white, dark, size=(256, 256))
    for s, a in zip(states[1:4], fine):
        b = fast.render(s.vertices, s.poses).max(-1) > 96
        assert (a & b).sum() / (a | b).sum() > 0.99


@pytest.mark.slow
def test_the_tracker_cannot_tell_them_apart(spec, face, lens):
    """Its landmarks differ by less than they do between two OpenGL cameras .4 pixels apart."""
    from facetwin.twin.landmarks import align, fit_unit

    rules = Couplings(spec)
    pixel = 4 * lens.distance * np.tan(lens.vertical_fov / 2) / lens.height
    aside = dataclasses.replace(lens, position_error=(0.3 * pixel, 0.25 * pixel, 0.0))
    apart, jitter = [], []
    with (
        FaceTwin(spec) as twin,
        Tracker() as tracker,
        Camera(face, lens) as slow,
        Camera(face, aside) as moved,
        RasterCamera(face, lens) as fast,
    ):
        unit = fit_unit(tracker.detect(slow.render(face.rest, {}), mirrored=True))

        def look(camera, state):
            seen = tracker.detect(camera.render(state.vertices, state.poses), mirrored=True)
            return align(seen, unit=unit)[:468, :2]

        for command in islice(mixed(spec, np.random.default_rng(1)), 24):
            state = twin.move(rules.project(command), fresh=True)
            one = look(slow, state)
            apart.append(np.linalg.norm(one - look(fast, state), axis=1).mean())
            jitter.append(np.linalg.norm(one - look(moved, state), axis=1).mean())
    assert np.mean(apart) < np.mean(jitter)
    assert np.median(apart) < np.median(jitter)
