import numpy as np
import pytest
from fakes import FakeTwin

from facetwin.hardware.check import RULES, check_rig
from facetwin.hardware.clock import SimClock
from facetwin.hardware.rig import Rig
from facetwin.hardware.safety import SafetyLayer
from facetwin.hardware.sim import SimRig
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.spec import load_rig

FACE = load_rig("face26")


def fake_rig(spec=FACE, **options) -> SimRig:
    return SimRig(spec, twin=FakeTwin(spec), size=(24, 16), **options)


@pytest.mark.parametrize("spec", ["face26", "emo23"])
@pytest.mark.parametrize("safe", [False, True])
def test_it_keeps_the_contract(spec, safe):
    rig: Rig = fake_rig(load_rig(spec))
    rig = SafetyLayer(rig) if safe else rig
    report = check_rig(rig)
    assert set(report.passed) | set(report.skipped) == set(RULES)
    assert set(report.skipped) <= {"measured is never an echo"}  # emo23's servos don't tell


def play(rig, seed=None):
    rig.open()
    rig.activate()
    if seed is not None:
        rig.home(seed)
    rng = np.random.default_rng(0)
    out = []
    for _ in range(8):
        sent = rig.write(rng.random(26))
        rig.clock.sleep(0.04)
        frame = rig.capture()
        out.append((sent, frame.time, frame.image, frame.truth["gap_mm"], rig.read().measured))
    return out


def same(a, b):
    return all(np.array_equal(x, y) for p, q in zip(a, b, strict=True) for x, y in zip(p, q, strict=True))


def test_same_seed_same_bits_and_home_starts_over():
    rig = SafetyLayer(fake_rig(seed=3))
    first = play(rig)
    assert same(first, play(SafetyLayer(fake_rig(seed=3))))
    assert not same(first, play(SafetyLayer(fake_rig(seed=4))))
    rig.clock.sleep(0.0137)
    again = play(rig, seed=3)
    assert same(first, again)
    rig.close()


def test_noise_is_of_the_frame_and_not_of_the_looking():
    a, b = fake_rig(), fake_rig()
    for rig in (a, b):
        rig.open()
        rig.activate()
    for _ in range(5):
        a.clock.sleep(0.04)
        a.capture()
    b.clock.sleep(0.2)
    np.testing.assert_array_equal(a.capture().image, b.capture().image)
    assert a.capture() is a.capture()  # the same moment is solved once


def test_the_camera_is_late_by_its_delay():
    spec = FACE.with_({"camera.mirror.delay": 0.03, "camera.mirror.rate": 100, "camera.mirror.noise": 0.0})
    rig = fake_rig(spec)
    rig.open()
    rig.activate()
    jaw, times, truth, shown = spec.index("jaw"), [], [], []
    command = spec.rest.copy()
    command[jaw] = 0.6
    rig.write(command)
    for _ in range(60):
        rig.clock.sleep(0.01)
        frame = rig.capture()
        times.append(frame.time)
        truth.append(rig._bank.position[jaw])
        shown.append(frame.truth["position"][jaw])
    np.testing.assert_allclose(times, np.arange(1, 61) * 0.01 - 0.03, atol=1e-9)
    np.testing.assert_allclose(shown[3:], truth[:-3], atol=1e-9)
    assert truth[-1] == pytest.approx(0.6, abs=0.02)


def test_skin_is_solved_only_when_someone_looks():
    rig = fake_rig()
    rig.open()
    rig.activate()
    for _ in range(50):
        rig.write(np.random.default_rng(0).random(26))
        rig.clock.sleep(0.02)
        rig.read()
    assert rig._twin.moves == 0


def test_time_is_simulated_and_timers_run_in_it():
    clock = SimClock()
    seen = []
    timer = clock.every(0.1, lambda: seen.append(clock.now()))
    clock.sleep_until(0.35)
    assert seen == pytest.approx([0.1, 0.2, 0.3])
    assert clock.now() == 0.35
    timer.cancel()
    clock.sleep(1)
    assert len(seen) == 3
    clock.sleep_until(0.1)  # the past is over
    assert clock.now() == pytest.approx(1.35)


def test_wrong_questions():
    with pytest.raises(UsageError, match="bad seed"):
        fake_rig(seed=-1)
    with pytest.raises(UsageError, match="no camera"):
        SimRig(_without_camera())
    rig = fake_rig()
    with pytest.raises(FaceTwinError, match=r"the rig is closed.*open\(\) and activate\(\) first"):
        rig.write(FACE.rest)


@pytest.mark.sim
def test_the_real_twin_keeps_the_contract_and_repeats_itself():
    rig = SafetyLayer(SimRig("face26", solver="exact", size=64))
    assert check_rig(rig).passed == RULES
    first = play(rig, seed=3)
    assert first[0][2].shape == (64, 64, 3)
    assert np.ptp([row[3] for row in first]) > 0.1  # lips move, mm
    assert same(first, play(rig, seed=3))
    rig.close()


@pytest.mark.sim
def test_the_skin_creeps_as_the_rig_file_says():
    quick = {"servo.max_speed": 100.0, "servo.natural_frequency": 100.0, "camera.mirror.delay": 0.0}
    spec = FACE.with_({**quick, "skin_time.creep_share": 0.1, "skin_time.creep_time": 0.4})
    rig = SimRig(spec, solver="linear", size=16)
    with rig:
        rig.activate()
        rig.home(0)
        command = spec.rest.copy()
        command[spec.index("upper_lip_raise")] = 1.0
        rest = rig.capture().truth["vertices"]
        rig.write(command)
        shown, times = [], []
        for _ in range(50):
            rig.clock.sleep(0.04)
            frame = rig.capture()
            shown.append(frame.truth["vertices"])
            times.append(frame.time)
        rig.clock.sleep(6)
        end = rig.capture().truth["vertices"]
        kept = rig._twin.kinematics.anchored
    way = np.linalg.norm(end - rest, axis=1)
    far = np.setdiff1d(np.flatnonzero(way > way.max() / 2), kept)  # free skin
    left = np.linalg.norm(end - np.array(shown), axis=-1)[:, far] / way[far]
    late = slice(2, 40)
    slope, start = np.polyfit(np.array(times)[late], np.log(left.mean(1)[late]), 1)
    assert -1 / slope == pytest.approx(0.4, rel=0.02)
    step = spec.motors[0].latency + 0.012  # s, servo and its lag
    assert np.exp(start + slope * step) == pytest.approx(0.1, rel=0.04)


@pytest.mark.sim
def test_another_body_behind_the_same_table():
    rig = SimRig("face26", solver="linear", size=48)
    with rig:
        rig.activate()
        rig.home(1)
        first, skin = rig.capture(), rig._twin.skin
        dark = FACE.with_({"camera.mirror.exposure": 0.7, "servo.latency": 0.2})
        rig.become(dark)
        rig.home(1)
        assert rig.spec is FACE or rig.spec == FACE
        assert rig.body == dark
        assert rig._twin.skin is skin  # only the camera was made anew
        assert rig.capture().image.mean() < 0.97 * first.image.mean()
        rig.become(FACE.with_({"material.thickness": 0.003, "skin_time.creep_share": 0.0}))
        assert rig._twin.skin is not skin
        rig.home(1)
        rig.become()
        rig.home(1)
        np.testing.assert_array_equal(rig.capture().image, first.image)  # as if nothing had been
        for wrong, words in (
            (load_rig("emo23"), "other motors"),
            (FACE.with_({"camera.mirror.width": 64}), "another camera"),
        ):
            with pytest.raises(UsageError, match=words) as error:
                rig.become(wrong)
            assert "\n" not in str(error.value)
            assert rig.body == FACE
    rig = fake_rig()
    rig._bank = object()  # as a rig with another body has
    with pytest.raises(UsageError, match="servos of its own"):
        rig.become(FACE.with_({"servo.latency": 0.1}))
    rig = fake_rig()
    rig.become(FACE.with_({"servo.latency": 0.1}))
    with pytest.raises(UsageError, match="given"):
        rig.become(FACE.with_({"material.young": 9e4}))


def _without_camera():
    import dataclasses

    return dataclasses.replace(FACE, cameras={})


def test_a_driver_may_not_override_the_contract():
    with pytest.raises(FaceTwinError, match="hooks only"):
        type("Cheat", (SimRig,), {"write": lambda self, c: c})
