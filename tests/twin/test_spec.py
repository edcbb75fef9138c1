import math

import numpy as np
import pytest

from facetwin.twin.couplings import Couplings
from facetwin.twin.errors import UsageError
from facetwin.twin.spec import BoxRule, LinearRule, RigSpec, load_rig, rig_names

FACE26 = [
    "neck_yaw",
    "neck_pitch",
    "neck_roll",
    "right_eye_yaw",
    "right_eye_pitch",
    "left_eye_yaw",
    "left_eye_pitch",
    "right_upper_lid",
    "right_lower_lid",
    "left_upper_lid",
    "left_lower_lid",
    "right_inner_brow",
    "right_outer_brow",
    "left_inner_brow",
    "left_outer_brow",
    "jaw",
    "upper_lip_raise",
    "upper_lip_roll",
    "lower_lip_raise",
    "lower_lip_roll",
    "right_corner_up",
    "right_corner_low",
    "right_corner_stretch",
    "left_corner_up",
    "left_corner_low",
    "left_corner_stretch",
]


@pytest.fixture(scope="module")
def face26() -> RigSpec:
    return load_rig("face26")


SMALL = """
# a small rig
name = "small"
motors = 5
[servo]
max_speed = 10.0
max_acceleration = 300.0
dead_band = 0.0035
backlash = 0.005
latency = 0.016
natural_frequency = 9.0
damping_ratio = 1.0
[material]
young = 100e3
thickness = 0.002
[camera.mirror]
width = 256
height = 256
vertical_fov = 0.44
distance = 0.35
[ranges]
"material.young" = [70e3, 130e3]
[limits]
jaw = [0.0, 0.95]
[[motor]]
name = "neck_yaw"
group = "neck"
channel = 0
lower = -0.35
upper = 0.35
rest = 0.0
part = "neck"
axis = "yaw"
[[motor]]
name = "neck_pitch"
group = "neck"
channel = 1
lower = -0.2
upper = 0.2
rest = 0.0
part = "neck"
axis = "pitch"
gain = -1.0
[[motor]]
name = "jaw"
group = "jaw"
channel = 2
lower = 0.0
upper = 0.6
rest = 0.0
part = "jaw"
axis = "pitch"
[[motor]]
name = "upper_lip_raise"
group = "lips"
channel = 3
lower = -0.5
upper = 0.5
rest = -0.2
[motor.pull]
landmarks = [0, 37, 267]
direction = [0.0, 1.0, 0.1]
travel = 0.009
carrier = "skull"
[[motor]]
name = "upper_lip_roll"
group = "lips"
channel = 4
lower = -0.5
upper = 0.5
rest = 0.0
[motor.pull]
landmarks = [13, 82, 312]
arc = [[0.0, 0.0, -0.005], [0.0, 0.001, 0.0], [0.0, 0.0, 0.005]]
[[anchor]]
name = "chin"
landmarks = [152]
carrier = "jaw"
[[coupling]]
name = "raise and roll"
when = { upper_lip_raise = [0.75, 1.0], upper_lip_roll = [0.75, 1.0] }
[[coupling]]
name = "line"
weights = { jaw = 1.0, upper_lip_roll = 1.0 }
at_most = 1.5
"""


def changed(tmp_path, old: str, new: str):
    assert SMALL.count(old) >= 1
    path = tmp_path / "mine.toml"
    path.write_text(SMALL.replace(old, new, 1))
    return path


def test_face26_is_the_table_of_the_design(face26):
    assert list(face26.names) == FACE26
    sizes = [len(face26.group(g)) for g in ("neck", "eyes", "lids", "brows", "jaw", "lips")]
    assert sizes == [3, 4, 4, 4, 1, 10]
    assert face26.rest.shape == (26,)
    assert 0 <= face26.rest.min() <= face26.rest.max() <= 1
    assert face26.rest[face26.index("jaw")] < 0.2
    assert len([c for c in face26.couplings if "upper_lip_roll" in str(c)]) >= 4


def test_emo23_has_the_published_numbers():
    emo = load_rig("emo23")
    assert emo.size == 23
    jaw = emo.motors[emo.index("jaw")]
    assert (jaw.bus, jaw.channel) == (1, 15)
    assert (math.degrees(jaw.lower), math.degrees(jaw.upper)) == pytest.approx((40, 94))
    assert jaw.rest_command == pytest.approx(1)  # 1 = closed
    lip = emo.motors[emo.index("upper_lip_raise")]  # published: 70 to 90, rest 88, inverted
    assert lip.sign == -1
    assert sorted(math.degrees(lip.sign * a) for a in (lip.lower, lip.upper)) == pytest.approx([70, 90])
    assert math.degrees(lip.sign * lip.rest) == pytest.approx(88)
    assert lip.rest_command == pytest.approx(0.1)
    assert len(emo.couplings) == 6
    both = np.array([emo.motors[emo.index(f"{s}_corner_up")].rest_command for s in ("right", "left")])
    assert both == pytest.approx([0.4, 0.4])  # the two sides, one inverted, rest alike


def test_left_and_right_are_mirror_images(face26):
    for m in face26.motors:
        if not m.name.startswith("right_") or m.pull is None:
            continue
        other = face26.motors[face26.index(m.name.replace("right", "left", 1))]
        for c in (0.0, 0.3, 1.0):
            a = m.pull.displacement(c, m.rest_command)
            b = other.pull.displacement(c, other.rest_command)
            np.testing.assert_allclose(a * (-1, 1, 1), b, atol=1e-12)


@pytest.mark.parametrize("name", rig_names())
def test_shipped_rigs_rest_allowed_and_round_trip(name):
    spec = load_rig(name)
    assert Couplings(spec).violations(spec.rest) == ()
    again = spec.with_()
    assert again == spec
    assert again.hash == spec.hash
    c = np.random.default_rng(0).random((5, spec.size))
    np.testing.assert_allclose(spec.to_command(spec.to_radians(c)), c, atol=1e-12)
    for m in spec.motors:
        if m.pull is not None:
            np.testing.assert_allclose(m.pull.displacement(m.rest_command, m.rest_command), 0, atol=1e-15)


def test_hash_is_of_the_content(tmp_path):
    small = load_rig(changed(tmp_path, "# a small rig", "# other words"))
    assert load_rig(changed(tmp_path, "# a small rig", "")).hash == small.hash
    assert load_rig(changed(tmp_path, "travel = 0.009", "travel = 0.0091")).hash != small.hash


def test_hash_is_of_the_rig_and_not_of_what_may_be_drawn(tmp_path, face26):
    small = load_rig(changed(tmp_path, "# a small rig", ""))
    assert small.with_({"ranges.material.young": [8e4, 9e4]}).hash == small.hash
    # keys that came later change nothing where they say nothing
    assert small.with_({"skin_time.creep_share": 0.0, "motor.jaw.scale": 1.0}).hash == small.hash
    for key in ("skin_time.creep_share", "motor.jaw.trim"):
        assert small.with_({key: 0.1}).hash != small.hash


def test_factors_multiply_what_is_there(face26):
    new = face26.with_({"servo.latency.factor": 2.0, "material.young.factor": 0.5,
                        "anchor.chin.stiffness.factor": 3})  # fmt: skip
    for a, b in zip(face26.motors, new.motors, strict=True):
        assert b.latency == 2 * a.latency
    assert new.material.young == face26.material.young / 2
    chin = [a.name for a in face26.anchors].index("chin")
    assert new.anchors[chin].stiffness == 3 * face26.anchors[chin].stiffness
    for key, value in (("material.yung.factor", 2.0), ("name.factor", 2.0), ("material.young.factor", "2")):
        with pytest.raises(UsageError):
            face26.with_({key: value})


def test_degrees_become_radians():
    assert load_rig("emo23").motors[0].max_speed == pytest.approx(math.radians(500))


def test_with_changes_only_what_it_names(face26):
    new = face26.with_({"motor.jaw.latency": 0.05, "camera.mirror.noise": 0.0}, material={"young": 9e4})
    assert new.motors[new.index("jaw")].latency == 0.05
    assert new.cameras["mirror"].noise == 0
    assert new.material.young == 9e4
    assert new.material.thickness == face26.material.thickness
    assert face26.material.young != 9e4
    slow = face26.with_({"servo.latency": 0.1})
    assert {m.latency for m in slow.motors} == {0.1}
    rules = face26.with_(
        couplings=(BoxRule("a", (("jaw", (0.5, 1.0)),)), LinearRule("b", (("jaw", 1.0),), 0.4))
    )
    assert [r.name for r in rules.couplings] == ["a", "b"]


def test_randomised_stays_in_its_ranges_and_repeats(face26):
    a, b, c = face26.randomised(3), face26.randomised(3), face26.randomised(4)
    assert a.hash == b.hash != c.hash
    low, high = face26.ranges["material.young"]
    assert low <= a.material.young <= high


WRONG = [  # old text, new text, words of the message
    ('group = "jaw"', 'gruop = "jaw"', ["gruop", "group", "jaw"]),
    ("motors = 5", "motors = 6", ["motors", "found 5", "6"]),
    ("lower = -0.35\nupper = 0.35", "lower = 0.35\nupper = -0.35", ["neck_yaw", "swapped limits", "0.35"]),
    ("upper = 0.6\nrest = 0.0", "upper = 0.6\nrest = 0.9", ["jaw", "rest", "0.9", "0.6"]),
    ('name = "neck_pitch"', 'name = "neck_yaw"', ["neck_yaw", "twice"]),
    ("channel = 1\n", "channel = 0\n", ["channel 0", "twice"]),
    ("channel = 1\n", 'channel = "1"\n', ["channel", "found 1", "whole number"]),
    ("latency = 0.016", "latency = nan", ["servo.latency", "nan", "0 to 1"]),
    ("latency = 0.016", "latency = 16", ["servo.latency", "16", "0 to 1"]),
    ("latency = 0.016", "latancy = 0.016", ["servo.latancy", "did you mean latency"]),
    ("latency = 0.016", "", ["neck_yaw", "latency", "missing"]),
    ("young = 100e3", "yuong = 100e3", ["material.young", "missing", "yuong"]),
    ("young = 100e3", "young = true", ["material.young", "True"]),
    ('"material.young" = [70e3', '"material.yuong" = [70e3', ["ranges", "yuong"]),
    ('"material.young" = [70e3', '"material.young" = [1', ["ranges", "young", "1000"]),
    ('"material.young" = [70e3', '"motor.*.young" = [70e3', ["ranges", "motor.*.young", "no such key"]),
    ('"material.young" = [70e3', '"skin_time.creep_share" = [70e3', ["ranges", "creep_share", "0.9"]),
    ("[ranges]", "[skin_time]\ncreep_share = 1.0\n[ranges]", ["skin_time.creep_share", "1.0", "0 to 0.9"]),
    ("[ranges]", "[skin_time]\ncreep_time = 0\n[ranges]", ["skin_time.creep_time", "0.001 to 100"]),
    ("[ranges]", "[skin_time]\nmodes = 2.5\n[ranges]", ["skin_time.modes", "2.5", "whole number"]),
    ("[ranges]", "[skin_time]\ncreep = 0.1\n[ranges]", ["skin_time.creep", "unknown key"]),
    ('axis = "yaw"', 'axis = "yaw"\nscale = 0.0', ["neck_yaw", "scale", "0.2 to 5"]),
    ("jaw = [0.0, 0.95]", "jow = [0.0, 0.95]", ["limits.jow", "did you mean jaw"]),
    ("jaw = [0.0, 0.95]", "jaw = [0.95, 0.0]", ["limits.jaw", "swapped"]),
    ("jaw = [0.0, 0.95]", "jaw = [0.2, 0.95]", ["limits.jaw", "rest"]),
    ("upper_lip_raise = [0.75, 1.0]", "upper_lip_rise = [0.75, 1.0]", ["upper_lip_rise", "upper_lip_raise"]),
    ("upper_lip_raise = [0.75, 1.0]", "upper_lip_raise = [0.75, 1.5]", ["upper_lip_raise", "1.5"]),
    ("at_most = 1.5", "at_most = 0.4", ["forbids the rest pose"]),
    ("at_most = 1.5", "at_most = -1", ["forbids every command"]),
    ("landmarks = [0, 37", "landmarks = [1050, 37", ["landmarks", "1050", "467"]),
    ('axis = "yaw"', 'axis = "jaw"', ["axis", "jaw", "did you mean yaw"]),
    ("direction = [0.0, 1.0, 0.1]", "direction = [0, 0, 0]", ["direction", "zero"]),
    ("direction = [0.0, 1.0, 0.1]", "direction = [0, 1]", ["direction", "3 numbers"]),
    ("arc = [[", "travel = 0.01\narc = [[", ["arc", "travel"]),
    ('carrier = "jaw"', 'carrier = "jar"', ["anchor[chin].carrier", "jar", "skull, jaw"]),
    ("width = 256", "width = 2.5", ["camera.mirror.width", "2.5"]),
    ('name = "small"', "name [", ["not TOML"]),
    ("[material]", "[matreial]", ["material", "missing", "matreial"]),
]


@pytest.mark.parametrize(("old", "new", "words"), WRONG)
def test_a_wrong_file_is_named_with_key_value_and_range(tmp_path, old, new, words):
    path = changed(tmp_path, old, new)
    with pytest.raises(UsageError) as error:
        load_rig(path)
    text = str(error.value)
    assert "\n" not in text
    for word in [str(path), *words]:
        assert word in text


def test_missing_motor_and_missing_file(tmp_path, face26):
    start, end = SMALL.index('[[motor]]\nname = "jaw"'), SMALL.index('[[motor]]\nname = "upper_lip_raise"')
    path = tmp_path / "short.toml"
    path.write_text(SMALL[:start] + SMALL[end:])
    with pytest.raises(UsageError, match="wrong number of motors; found 4, expected 5"):
        load_rig(path)
    with pytest.raises(UsageError, match=r"gone\.toml"):
        load_rig(tmp_path / "gone.toml")
    with pytest.raises(UsageError, match="did you mean face26"):
        load_rig("face62")
    with pytest.raises(UsageError, match="did you mean jaw"):
        face26.index("jow")


def test_nothing_can_be_changed_in_place(face26):
    with pytest.raises((AttributeError, TypeError)):
        face26.motors[0].latency = 1
    with pytest.raises(ValueError, match="read-only"):
        face26.rest[0] = 1


def test_a_trim_in_degrees_may_be_below_minus_one():
    emo = load_rig("emo23")
    tilted = emo.with_({f"motor.{emo.names[0]}.trim": math.radians(-3)})
    assert tilted.motors[0].trim == pytest.approx(math.radians(-3))
