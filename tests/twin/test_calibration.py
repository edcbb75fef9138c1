"""Calibration: what was set wrong is found again, what is not seen is left alone, bad data is named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from facetwin.twin.calibration.camera_fit import fit_camera, project
from facetwin.twin.calibration.excitation import RATE, excitation, shortest, turn
from facetwin.twin.calibration.face_map import FaceMap, LinearMap, linear_table, points, skin_points
from facetwin.twin.calibration.fit import Fitter
from facetwin.twin.calibration.observed import GUARD, Observed, check
from facetwin.twin.calibration.rig_file import source_of, write_rig
from facetwin.twin.calibration.scores import score
from facetwin.twin.calibration.traces import NAMES, Playback, table_of
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.face import load_face
from facetwin.twin.kinematics import Kinematics
from facetwin.twin.landmarks import align, canonical, fit_unit, head_turn
from facetwin.twin.servo import ServoBank
from facetwin.twin.skin.fast_features import Features
from facetwin.twin.spec import load_rig

pytestmark = pytest.mark.sim

FACE = load_rig("face26")
EXCITED = ("neck_yaw", "left_eye_yaw", "jaw", "upper_lip_roll", "left_corner_stretch", "right_inner_brow")
TRUE = {
    "jaw": {"latency": 0.028, "natural_frequency": 7.0, "damping_ratio": 0.8, "scale": 1.1, "trim": 0.03},
    "upper_lip_roll": {"scale": 0.88, "backlash": 0.03, "latency": 0.01},
    "left_corner_stretch": {"natural_frequency": 11.0, "scale": 1.12, "trim": -0.05},
    "right_inner_brow": {"scale": 0.85, "latency": 0.03, "trim": 0.04},
    "left_eye_yaw": {"scale": 1.15, "max_speed": 5.0, "trim": 0.03},
}


def other(wrong=TRUE):
    return FACE.with_({f"motor.{m}.{k}": v for m, keys in wrong.items() for k, v in keys.items()})


def commands():
    """A few motors in turn, one after another, then all of them at random."""
    rng = np.random.default_rng(4)
    rest = np.tile(FACE.rest, (40, 1))
    pieces = [rest]
    for k, name in enumerate(EXCITED):
        i = FACE.index(name)
        piece = np.tile(FACE.rest, (220, 1))
        piece[:, i] = turn(FACE.rest[i], 0.0, 1.0, mirrored=k % 2 == 1)
        pieces.append(piece)
    wild = np.tile(FACE.rest, (36, 1))
    for name in EXCITED:
        i = FACE.index(name)
        wild[:, i] = np.clip(FACE.rest[i] + rng.normal(0, 0.25, 36), 0, 1)
    return np.concatenate([*pieces, np.repeat(wild, 10, axis=0), rest])


class Recorded:
    """A rig's table, recorded with landmarks by geometry on a linear skin: no part of the fit is used."""

    def __init__(self):
        self.face = load_face()
        self.kinematics = Kinematics(FACE, self.face)
        self.features = Features(FACE)
        self.table = linear_table(FACE, self.face, self.kinematics, self.features, np.arange(468))

    def map(self):
        at = skin_points()
        skin = LinearMap(self.features, self.table[:, at], self.face.rest[at])
        return FaceMap(FACE, self.face, skin, features=self.features)

    def observe(self, spec, *, fps=12.5, read=True, noise=3e-4):
        asked = commands()
        time = np.arange(len(asked)) / RATE
        bank = ServoBank(spec, 0.005)
        bank.reset(asked[0])
        every = round(RATE / fps)
        shaft, load = [bank.shaft], []
        for k, command in enumerate(asked):
            if k % every == 0:
                load.append(bank.position)
            for _ in range(4):
                bank.step(command)
            shaft.append(bank.shaft)
        load = np.array(load)
        vertices = self.face.rest[:468] + np.tensordot(self.features.array(load), self.table, 1)
        seen = np.empty((len(load), 478, 3))
        seen[:, :468] = vertices
        for k, at in enumerate(load):
            local, poses = self.kinematics.local(at), self.kinematics.poses(at)
            for name, a in (("right_eye", 468), ("left_eye", 473)):
                iris = canonical()[a : a + 5] * self.face.metres_per_u
                seen[k, a : a + 5] = iris @ local[name][:3, :3].T + local[name][:3, 3]
            seen[k] = seen[k] @ poses["skull"][:3, :3].T + poses["skull"][:3, 3]
        pixels = seen * (1, -1, -1)
        grain = np.random.default_rng(0).normal(0, noise, seen.shape)
        return Observed(
            time,
            asked,
            np.array(shaft[:-1]) if read else np.full_like(asked, np.nan),
            time[::every],
            align(pixels, unit=fit_unit(pixels[:5])).astype(float) + grain,
            head_turn(pixels).astype(float),
        )


@pytest.fixture(scope="module")
def recorded():
    return Recorded()


@pytest.fixture(scope="module")
def data(recorded):
    return recorded.observe(other())


def test_playback_is_the_servo_bank():
    spec, asked = other(), commands()
    bank = ServoBank(spec, 0.005)
    bank.reset(asked[0])
    want = np.array([bank.step(command) for command in asked for _ in range(4)])
    playback = Playback(spec, np.arange(len(asked)) / RATE, asked)
    table = table_of(spec)
    for i in (FACE.index("jaw"), FACE.index("upper_lip_roll")):
        sets = np.repeat(table[i : i + 1], 3, axis=0)
        sets[1, 0] += 0.01
        _, load = playback.play(i, sets)
        np.testing.assert_allclose(load[0, 1 : len(want) + 1], want[:, i], atol=1e-12)
        np.testing.assert_array_equal(load[0], load[2])
        assert np.abs(load[1] - load[0]).max() > 1e-3


@pytest.mark.parametrize("name", ["face26", "emo23"])
def test_excitation_moves_every_motor_within_its_limits(name):
    spec = load_rig(name)
    asked = excitation(spec, seed=1)
    low, high = spec.soft_limits
    assert len(asked) == round(shortest(spec) * RATE)
    assert (asked >= low).all()
    assert (asked <= high).all()
    assert np.ptp(asked, axis=0).min() > 0.5
    np.testing.assert_array_equal(asked[0], np.clip(spec.rest, low, high))
    np.testing.assert_array_equal(asked[-1], asked[0])
    np.testing.assert_array_equal(asked, excitation(spec, seed=1))
    with pytest.raises(UsageError, match="too short"):
        excitation(spec, 10.0)


def test_gradient_is_the_difference(recorded):
    face_map = recorded.map()
    rng = np.random.default_rng(2)
    at = np.clip(FACE.rest + rng.normal(0, 0.2, (3, FACE.size)), 0, 1)
    value, slope = face_map.gradient(at, np.zeros(0), np.arange(FACE.size))
    np.testing.assert_allclose(value, face_map.array(at), atol=1e-6)
    for i in range(FACE.size):
        step = np.zeros(FACE.size)
        step[i] = 0.01
        near = (face_map.array(at + step) - face_map.array(at - step)) / 0.02
        np.testing.assert_allclose(slope[:, :, i], near, atol=3e-4)


def test_map_is_the_geometry(recorded):
    """The map's linear alignment and the real one agree."""
    data = recorded.observe(FACE, noise=0.0)
    fitter = Fitter(FACE, data, recorded.map())
    seen = recorded.map().target(data.landmarks, data.turn)
    left = seen - fitter.predict(fitter.nothing(), data.picture_time)
    assert np.abs(left[:, :-3]).mean() < 2e-4  # u
    assert np.abs(left[:, -3:]).max() < 0.01  # rad


@pytest.mark.parametrize("read", [True, False], ids=["servos that tell", "servos that do not"])
def test_what_was_set_wrong_is_found(recorded, read):
    spec = other()
    data = check(recorded.observe(spec, read=read), FACE)
    fitter = Fitter(FACE, data, recorded.map())
    fit = fitter.fit(rounds=2)
    scores = score(fitter, fit)
    assert scores.held_out.ratio < 0.35
    assert scores.train.ratio < 0.35
    got, want = fitter.scale.table(fit.values.z), table_of(spec)
    for motor in TRUE:
        i = FACE.index(motor)
        assert got[i, NAMES.index("scale")] == pytest.approx(want[i, NAMES.index("scale")], abs=0.02)
        assert got[i, NAMES.index("trim")] == pytest.approx(want[i, NAMES.index("trim")], abs=0.012)
        within = 0.001 if read else 0.006
        assert got[i, 0] == pytest.approx(want[i, 0], abs=within)
    jaw = FACE.index("jaw")
    assert got[jaw, 1] == pytest.approx(7.0, rel=0.02 if read else 0.15)
    # what the recording shows has less of its prior left
    assert fit.known[jaw, NAMES.index("scale")] < 0.1


def test_the_right_table_stays(recorded):
    data = recorded.observe(FACE)
    fitter = Fitter(FACE, data, recorded.map())
    fit = fitter.fit(rounds=1)
    assert np.abs(fit.values.z[:, NAMES.index("scale")]).max() < 0.02
    assert np.abs(fit.values.z[:, 0]).max() < 0.002


def test_what_is_not_shown_is_left_alone(recorded, data):
    fitter = Fitter(FACE, data, recorded.map())
    i = FACE.index("lower_lip_roll")
    assert not fitter.fitted[i].any()
    assert any(note.startswith("lower_lip_roll: left alone") for note in fitter.notes)
    fit = fitter.fit(rounds=1, steps=1)
    assert not fit.values.z[i].any()
    assert not any(".lower_lip_roll." in key for key in fitter.scale.changes(fit.values, fit.fitted))


def test_another_face_is_an_offset(recorded, data):
    shaped = replace(data, landmarks=data.landmarks + np.random.default_rng(3).normal(0, 0.02, (478, 3)))
    fitter = Fitter(FACE, shaped, recorded.map(), same_face=False)
    fit = fitter.fit(rounds=1)
    assert score(fitter, fit).held_out.ratio < 0.5
    jaw = FACE.index("jaw")
    assert fitter.scale.table(fit.values.z)[jaw, NAMES.index("scale")] == pytest.approx(1.1, abs=0.03)


def test_split_by_time(data):
    train, held = data.split()
    assert not (train & held).any()
    assert 0.15 < held.sum() / (train.sum() + held.sum()) < 0.35
    nearest = np.abs(data.picture_time[held][:, None] - data.picture_time[train]).min()
    assert nearest >= GUARD


def test_tracker_response_is_learned(recorded):
    """A tracker that shifts, stretches and sees lids: learned from the twin, then no reason to change it."""
    data = recorded.observe(FACE)
    seen = data.landmarks.copy()
    at = Playback(FACE, data.time, data.sent)
    table = table_of(FACE)
    where = np.stack(
        [at.at(at.play(i, table[i : i + 1])[1], data.picture_time)[0] for i in range(FACE.size)], 1
    )
    rest = seen[:5].mean(0)
    seen = rest + 0.01 + 0.7 * (seen - rest)
    face_map = recorded.map()
    response = face_map.learn(where, seen, data.turn)
    assert response.error < 1.5e-3
    assert face_map.dims == 2
    fitter = Fitter(FACE, replace(data, landmarks=seen), face_map)
    fit = fitter.fit(rounds=1)
    assert np.abs(fit.values.z[:, NAMES.index("scale")]).max() < 0.06


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: replace(d, time=d.time[::-1].copy()), "runs backwards"),
        (lambda d: replace(d, picture_time=np.roll(d.picture_time, 1)), "runs backwards"),
        (
            lambda d: replace(d, landmarks=np.repeat(d.landmarks[:1], len(d.landmarks), 0)),
            "camera was frozen",
        ),
        (lambda d: replace(d, landmarks=np.full_like(d.landmarks, np.nan)), "found too seldom"),
        (lambda d: replace(d, sent=np.repeat(d.sent[:1], len(d.sent), 0)), "no motor moved"),
        (lambda d: replace(d, sent=d.sent * np.nan), "not commands"),
        (lambda d: replace(d, sent=d.sent[:, :5]), "wrong shape"),
        (lambda d: replace(d, time=d.time / 10, picture_time=d.picture_time / 10), "too short"),
        (lambda d: replace(d, time=np.full_like(d.time, np.inf)), "not finite"),
    ],
)
def test_bad_recordings_are_named(data, change, says):
    with pytest.raises(UsageError, match=says) as caught:
        check(change(data), FACE, "here")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["face26", "emo23"])
def test_rig_file_differs_in_the_asked_keys_only(tmp_path, name):
    spec = load_rig(name)
    jaw = "motor.jaw."
    changes = {
        jaw + "latency": 0.031, jaw + "scale": 1.07, jaw + "trim": -0.01, jaw + "max_speed": 7.5,
        "motor.neck_yaw.backlash": 0.011, "material.young": 91234.5, "camera.mirror.delay": 0.033,
        "camera.mirror.position_error.1": 0.004, "camera.mirror.vertical_fov": 0.35,
    }  # fmt: skip
    got = write_rig(tmp_path / "mine.toml", name, changes, "calibrated")
    assert got == spec.with_(changes)
    back = {jaw + key: getattr(spec.motors[spec.index("jaw")], key) for key in ("latency", "scale", "trim")}
    assert got.with_(back) != spec  # the others still differ
    old, new = source_of(name).read_text().splitlines(), (tmp_path / "mine.toml").read_text().splitlines()
    assert new[0] == "# calibrated"
    assert [line for line in old if line.lstrip().startswith("#")] == [
        line for line in new[1:] if line.lstrip().startswith("#")
    ]
    assert sum(line not in old for line in new) <= len(changes) + 1
    assert list(tmp_path.iterdir()) == [tmp_path / "mine.toml"]


def test_rig_file_refuses_and_leaves_nothing(tmp_path):
    for changes in ({"motor.nose.scale": 1.1}, {"motor.jaw.scale": 99.0}, {"material.colour": 1.0}):
        with pytest.raises(FaceTwinError):
            write_rig(tmp_path / "mine.toml", "face26", changes)
    with pytest.raises(UsageError, match="toml"):
        write_rig(tmp_path / "mine.txt", "face26", {"motor.jaw.scale": 1.1})
    assert not list(tmp_path.iterdir())


def test_camera_is_found():
    face = load_face()
    at = points()
    rest = canonical() * face.metres_per_u
    rest = rest[at]
    spec = FACE.cameras["mirror"]
    true = replace(
        spec, position_error=(0.006, -0.005, 0.0), rotation_error=(0.01, -0.006, 0.015), distance=0.38
    )
    size = (256, 256)
    bias = np.random.default_rng(0).normal(0, 1.5, (len(at), 2))  # px, what a tracker adds
    seen = project(rest, true, size) + bias
    got, fit = fit_camera(seen, project(rest, spec, size) + bias, rest, spec, spec, size)
    assert fit.after < 0.3 < fit.before
    assert got.rotation_error[2] == pytest.approx(0.015, abs=0.002)
    # how large the face is seen is told, distance and angle of view hardly
    wide = [np.tan(c.vertical_fov / 2) * c.distance for c in (got, true)]
    assert wide[0] == pytest.approx(wide[1], rel=0.01)
