import numpy as np
import pytest

from facetwin.policies.controllers import (
    NAMES,
    Controller,
    LandmarkInverse,
    ReferenceClip,
    controller,
    rest_face,
    told_early,
)
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.landmarks import indices
from facetwin.twin.spec import load_rig

SPEC = load_rig()


def talking(pictures=20, name="talk"):
    """An ideal robot whose lower lip and jaw go up and down."""
    face = np.repeat(rest_face()[None], pictures, 0)
    low = np.concatenate([indices("jaw11"), [14, 17, 84, 87, 178, 317, 402, 314, 405, 16, 15]])
    face[:, low, 1] -= 0.05 * (1 - np.cos(np.arange(pictures) / 2))[:, None].astype(np.float32)
    sound = np.zeros(640 * pictures, np.float32)
    return ReferenceClip(name, face, np.zeros((pictures, 16), np.float32), sound)


def test_a_clip_is_cut_with_its_sound():
    clip = talking(20)
    part = clip[5:8]
    assert len(part) == 3
    assert len(part.samples) == 3 * 640
    assert np.array_equal(part.landmarks, clip.landmarks[5:8])
    assert sum(len(clip[k : k + 6].samples) for k in range(0, 20, 6)) == len(clip.samples)
    assert len(clip[8:5]) == 0
    with pytest.raises(UsageError, match="without a step"):
        clip[::2]


@pytest.mark.parametrize(
    ("what", "bad"),
    [
        ("landmarks", np.zeros((3, 468, 3), np.float32)),
        ("landmarks", np.full((3, 478, 3), np.nan, np.float32)),
        ("latents", np.zeros((3, 8), np.float32)),
        ("latents", np.zeros((2, 16), np.float32)),
        ("samples", np.zeros((3, 2), np.float32)),
        ("gap_mm", np.zeros(2, np.float32)),
        ("landmarks", [[0.0]]),
    ],
)
def test_bad_references_are_refused_in_one_line(what, bad):
    good = {"landmarks": np.zeros((3, 478, 3), np.float32)}
    with pytest.raises(FaceTwinError, match=what) as error:
        ReferenceClip("bad", **{**good, what: bad})
    assert "\n" not in str(error.value)


def test_what_a_clip_lacks_is_named():
    with pytest.raises(FaceTwinError, match="without latents"):
        ReferenceClip("bare", np.zeros((1, 478, 3), np.float32)).need("latents")
    with pytest.raises(FaceTwinError, match="rate"):
        ReferenceClip("bad", np.zeros((1, 478, 3), np.float32), fps=0.0)


def test_displacement_counts_from_the_robots_rest():
    clip = talking(4)
    assert np.abs(clip.displacement()[0]).max() < 1e-6
    assert clip.displacement().shape == (4, 63, 2)


def test_landmark_inverse_is_a_controller_and_begins_anew_each_time():
    one = LandmarkInverse(SPEC)
    assert isinstance(one, Controller)
    a, b = one.commands(talking()), one.commands(talking())
    assert np.array_equal(a, b)
    assert a.shape == (20, 26)
    jaw = SPEC.index("jaw")
    assert a[6, jaw] > a[0, jaw] + 0.2
    assert one.commands(talking(20)[:0]).shape == (0, 26)


def test_told_early_holds_the_last_command():
    rows = np.arange(8.0).reshape(4, 2)
    assert np.array_equal(told_early(rows, 0), rows)
    assert np.array_equal(told_early(told_early(rows, 1), 2), told_early(rows, 3))
    assert told_early(rows[:0], 3).shape == (0, 2)
    with pytest.raises(UsageError, match="early"):
        told_early(rows, -1)


def test_unknown_controllers_name_the_known_ones():
    with pytest.raises(UsageError, match=NAMES[0]):
        controller("magic", SPEC)
