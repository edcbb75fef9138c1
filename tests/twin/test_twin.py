import numpy as np
import pytest
from scipy.spatial import cKDTree

from facetwin.policies.babble import key_pose
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.landmarks import align, fit_unit, head_rotation, opening, width
from facetwin.twin.spec import load_rig
from facetwin.twin.tracker import Tracker
from facetwin.twin.twin import FaceTwin

pytestmark = pytest.mark.sim


@pytest.fixture(scope="module")
def twin():
    with FaceTwin(load_rig(), size=(192, 192)) as made:
        yield made


@pytest.fixture(scope="module")
def tracker():
    with Tracker() as made:
        yield made


def pose(twin, **motors):
    c = twin.spec.rest.copy()
    for ending, value in motors.items():
        c[[i for i, n in enumerate(twin.spec.names) if n.endswith(ending)]] = value
    return c


def test_rest_is_rest(twin):
    state = twin.move(twin.spec.rest, fresh=True)
    assert np.abs(state.vertices - twin.face.rest).max() < 1e-9
    assert 0 < state.gap < 0.0005


def test_symmetric_commands_make_symmetric_faces(twin):
    pair = cKDTree(twin.face.rest).query(twin.face.rest * (-1, 1, 1))[1]
    for name in ("ah", "oo", "smile"):
        v = twin.move(key_pose(twin.spec, name), fresh=True).vertices
        assert np.abs(v[pair] * (-1, 1, 1) - v).max() < 2e-4, name  # twice the solver's tolerance


def test_the_mouth_does_what_the_motors_say(twin):
    shut = twin.move(pose(twin, jaw=0.0), fresh=True)
    wide = twin.move(pose(twin, jaw=0.7), fresh=True)
    assert wide.gap > 0.012 > 0.0005 > shut.gap
    pucker = twin.move(pose(twin, corner_stretch=0.0), fresh=True).vertices
    stretch = twin.move(pose(twin, corner_stretch=1.0), fresh=True).vertices

    def mouth(v):
        return v[291, 0] - v[61, 0]

    assert mouth(stretch) - mouth(pucker) > 0.015


def test_lips_pressed_together_stay_out_of_each_other(twin):
    state = twin.move(pose(twin, lower_lip_raise=1.0, upper_lip_raise=0.0), fresh=True)
    assert state.report.penetration < 3e-4
    assert state.gap < 0.0005


def test_the_same_goals_from_rest_give_the_same_bits(twin):
    c = key_pose(twin.spec, "ee")
    a = twin.move(c, fresh=True).vertices
    twin.move(key_pose(twin.spec, "ah"))
    assert (twin.move(c, fresh=True).vertices == a).all()


def test_pictures_are_reproducible_and_mirrored(twin):
    a = twin.picture(twin.move(pose(twin, neck_yaw=1.0), fresh=True))
    twin.picture(twin.move(twin.spec.rest, fresh=True))
    b = twin.picture(twin.move(pose(twin, neck_yaw=1.0), fresh=True))
    assert a.shape == (192, 192, 3)
    assert (a == b).all()


def test_the_mirror_shows_the_face_and_its_own_right_is_right(twin, tracker):
    rest = tracker.detect(twin.picture(twin.move(twin.spec.rest, fresh=True)), mirrored=True)
    unit = fit_unit(rest)
    wink = twin.move(pose(twin, right_upper_lid=0.0), fresh=True)
    seen = align(tracker.detect(twin.picture(wink), mirrored=True), unit=unit)
    right = seen[159, 1] - seen[145, 1]
    left = seen[386, 1] - seen[374, 1]
    assert right < 0.6 * left
    turned = tracker.detect(twin.picture(twin.move(pose(twin, neck_yaw=0.9), fresh=True)), mirrored=True)
    # positive yaw looks to the face's left: its nose points to +x
    assert head_rotation(turned)[0, 2] - head_rotation(rest)[0, 2] > 0.15


def test_seen_openings_rise_with_true_ones(twin, tracker):
    unit, seen, wide = None, [], []
    for jaw in (0.0, 0.25, 0.5, 0.75):
        points = tracker.detect(twin.picture(twin.move(pose(twin, jaw=jaw), fresh=True)), mirrored=True)
        unit = unit or fit_unit(points)
        seen.append(opening(align(points, unit=unit)))
        wide.append(width(align(points, unit=unit)))
    assert (np.diff(seen) > 0.03).all()
    assert 0.45 < wide[0] < 0.7


def test_bad_positions_and_names_are_said_in_one_line(twin):
    with pytest.raises(FaceTwinError, match="not a motor position"):
        twin.move(np.full(26, np.nan))
    with pytest.raises(FaceTwinError, match="not a motor position"):
        twin.move(np.zeros(25))
    with pytest.raises(UsageError, match="unknown skin solver"):
        FaceTwin(load_rig(), solver="guess")


def test_closing_twice_is_fine():
    made = FaceTwin(load_rig(), size=(64, 64))
    made.picture(made.move(made.spec.rest))
    made.close()
    made.close()
    assert made.picture(made.move(made.spec.rest)).shape == (64, 64, 3)  # a new camera when asked again
    made.close()


@pytest.mark.parametrize("bad", [np.zeros((4, 4)), np.zeros((4, 4, 3), float), np.zeros((0, 4, 3), np.uint8)])
def test_the_tracker_wants_pictures(tracker, bad):
    with pytest.raises(FaceTwinError, match="not a picture"):
        tracker.detect(bad)


def test_no_face_is_none(tracker):
    assert tracker.detect(np.full((96, 96, 3), 90, np.uint8)) is None
    assert tracker.second_tries >= 1
