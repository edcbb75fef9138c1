"""Emulated rigs whole: the unchanged driver, a robot in other processes, faults, and nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from facetwin.hardware.check import check_rig
from facetwin.hardware.emulated import emulated_rig
from facetwin.hardware.emulated.kinds import KINDS
from facetwin.hardware.emulated.robot import wait_until
from facetwin.hardware.emulated.trial import TRIALS, trial
from facetwin.hardware.eye import make_eye
from facetwin.hardware.names import make_rig
from facetwin.hardware.rig import ACTIVE, CLOSED, HELD, OPEN, RigFault
from facetwin.hardware.safety import SafetyLayer
from facetwin.hardware.serial_rig import SerialRig
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.spec import load_rig


@pytest.fixture(scope="module")
def robots():
    """One rig of each kind without a camera, started when first asked for; closed between tests."""
    made = {}

    def get(kind: str):
        rig = made.setdefault(kind, None) or emulated_rig(kind, camera=False)
        made[kind] = rig
        return rig

    yield get
    for rig in made.values():
        rig.close()
        rig.emulator.stop()


@pytest.fixture
def robot(robots, request):
    rig = robots(request.param)
    yield rig
    if rig.emulator.running:
        rig.emulator.clear()
    rig.close()


every = pytest.mark.parametrize("robot", list(KINDS), indirect=True)
#: two kinds at once, the others with the slow tests
some = pytest.mark.parametrize(
    "robot",
    ["maestro", "dynamixel", *(pytest.param(k, marks=pytest.mark.slow) for k in ("pca9685", "feetech"))],
    indirect=True,
)


def travel(rig, command, seconds: float = 1.0) -> np.ndarray:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sent = rig.write(command)
        time.sleep(0.02)
    return sent


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


# --- what it is --------------------------------------------------------------------------------------


def test_constructing_starts_nothing():
    rig = emulated_rig("dynamixel", body=4)
    assert not rig.emulator.running
    assert not os.path.exists(os.path.dirname(rig.emulator.path))
    told = rig.capabilities
    assert (told.simulated, told.emulated, told.harmless, told.truth) == (False, True, True, False)
    assert told.camera == (256, 256, 3)


def test_by_name_with_options():
    rig = make_rig("emulated:feetech?body=7&camera=false&baud=500000")
    assert rig.emulator.seed == 7
    assert rig.baud == rig.emulator.setup["baud"] == 500000
    assert rig.capabilities.camera is None
    with pytest.raises(UsageError, match="did you mean feetech"):
        make_rig("emulated:fetech")
    for wrong in ("emulated:maestro?body=-1", "emulated:maestro?speed=3", "emulated:dynamixel?body=1.5"):
        with pytest.raises(UsageError):
            make_rig(wrong)
    with pytest.raises(UsageError, match="missing"):
        emulated_rig("dynamixel", boards={"mising": []})


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_driver_is_the_unchanged_one_and_knows_the_table_alone(kind):
    rig = emulated_rig(kind, body=5, camera=False)
    driver = KINDS[kind].driver()
    assert isinstance(rig, driver)
    assert issubclass(driver, SerialRig)
    own = {name for cls in type(rig).__mro__[:2] for name in vars(cls) if not name.startswith("__")}
    assert own <= {"emulator", "capabilities", "_open", "_close", "_abc_impl"}
    assert rig.spec == load_rig("face26")
    assert rig.emulator.body != rig.spec


def test_a_seed_is_a_body():
    one, same, other, exact = (emulated_rig("maestro", body=s, camera=False).emulator for s in (3, 3, 4, 0))
    assert one.body == same.body
    assert one.drawn == same.drawn
    assert one.body != other.body
    assert exact.body == exact.spec
    assert len(one.drawn) > 60


# --- it moves ----------------------------------------------------------------------------------------


@some
def test_what_is_told_is_what_arrives(robot):
    em = robot.emulator
    robot.open()
    before = em.truth()
    assert not before["on"].any()
    robot.activate()
    rng = np.random.default_rng(0)
    goal = np.clip(robot.spec.rest + rng.uniform(-0.2, 0.2, robot.spec.size), 0, 1)
    since = time.monotonic()
    travel(robot, goal, 1.2)
    now = em.truth()
    assert now["on"].all()
    step = 25.0 / np.abs(robot.wiring.per_rad * robot.wiring.span)  # PCA9685: 19.5 quarter-us
    dead = em.truth()["dead_band"] / robot.wiring.span
    assert (np.abs(now["shaft"] - goal) <= step + dead + 0.005).all()
    gain = now["scale"] * (now["shaft"] - robot.spec.rest) + robot.spec.rest
    gain += now["trim"] / robot.wiring.span
    slack = now["backlash"] / robot.wiring.span
    assert (np.abs(now["position"] - gain) <= slack + 0.005).all()
    asked, done = em.goals("asked", since), em.goals("done", since)
    np.testing.assert_array_equal(asked.units, done.units)
    assert set(asked.motor) == set(range(robot.spec.size))
    health = em.health()
    assert (health["bad"], health["strange"], health["collisions"], health["framing"]) == (0, 0, 0, 0)
    robot.release()
    assert wait_until(lambda: not em.truth()["on"].any(), 1.0)
    place = em.truth()["position"]
    time.sleep(0.2)
    np.testing.assert_allclose(em.truth()["position"], place, atol=1e-9)


@pytest.mark.slow
@every
def test_it_stands_where_it_stood_when_it_is_opened_again(robot):
    robot.open().activate()
    goal = robot.spec.rest.copy()
    goal[15] = 0.4
    travel(robot, goal, 0.8)
    robot.close()
    pids = robot.emulator.pids()
    robot.open()
    assert robot.emulator.pids() == pids
    assert robot.emulator.truth()["shaft"][15] == pytest.approx(0.4, abs=0.02)


@pytest.mark.slow
def test_the_wire_takes_its_time():
    """26 servos at 57,600 baud: so many bytes cannot come faster."""
    rig = emulated_rig("feetech", camera=False, baud=57600)
    try:
        rig.open().activate()
        em, times = rig.emulator, []
        for _ in range(4):
            before, start = em.health(), time.monotonic()
            rig.read()
            spent, after = time.monotonic() - start, em.health()
            size = after["sent"] - before["sent"] + after["received"] - before["received"]
            times.append(spent / (size * 10 / 57600))
        assert min(times) >= 0.98
        assert min(times) < 2.0
    finally:
        rig.close()
        rig.emulator.stop()


# --- faults ------------------------------------------------------------------------------------------


@some
def test_a_pulled_cable_stops_it_with_the_reason_and_it_comes_back(robot):
    layer = SafetyLayer(robot)
    layer.open().activate()
    travel(layer, robot.spec.rest, 0.2)
    robot.emulator.fault("unplug")
    with contextlib.suppress(RigFault):
        for _ in range(20):
            layer.read()
            layer.write(robot.spec.rest)
        raise AssertionError("it did not notice")
    assert wait_until(lambda: layer.status.state in (HELD, OPEN), 1.0)
    assert layer.status.reason
    with contextlib.suppress(RigFault):  # nobody confirms that the motors are off
        layer.close()
    assert layer.status.state == CLOSED
    with pytest.raises(FaceTwinError, match=r"no such|vanished|not there|no port"):
        layer.open()
    robot.emulator.fault("plug")
    layer.reset()
    layer.open().activate()
    travel(layer, robot.spec.rest, 0.1)
    assert layer.status.state == ACTIVE
    layer.close()


@pytest.mark.slow
@pytest.mark.parametrize("robot", ["dynamixel", "feetech"], indirect=True)
def test_servos_that_complain_are_heard(robot):
    layer = SafetyLayer(robot)
    layer.open().activate()
    robot.emulator.fault("latched", motor="jaw")
    assert wait_until(lambda: layer.read().faults or layer.fault, 1.5)
    assert "jaw" in layer.fault
    assert layer.status.state in (HELD, OPEN)
    layer.close()


def test_wrong_settings_of_faults(robots):
    em = robots("maestro").emulator
    wrong = [
        ("dorp", {}), ("drop", {"rate": 2}), ("drop", {"speed": 1}), ("silent", {"motor": "jar"}),
        ("silent", {"motor": 99}), ("delay", {"delay": float("nan")}), ("drop", {"where": "x"}),
    ]  # fmt: skip
    for kind, how in wrong:
        with pytest.raises(UsageError):
            em.fault(kind, **how)
    with pytest.raises(FaceTwinError, match="does not run"):
        emulated_rig("maestro", camera=False).emulator.truth()


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("dynamixel", {"boards": {"missing": ["jaw"]}}, "jaw"),
        ("dynamixel", {"boards": {"twice": ["jaw"]}}, "jaw"),
        ("dynamixel", {"board_baud": 57600}, "57600"),
        ("feetech", {"boards": {"missing": ["jaw"]}}, "jaw"),
        ("maestro", {"boards": {"crc": False}, "crc": True}, "crc"),
        ("maestro", {"boards": {"devices": [12, 14]}}, "13"),
        ("pca9685", {"boards": {"firmware": [2, 0]}}, "2.0"),
    ],
)
@pytest.mark.slow
def test_a_robot_that_is_not_as_the_table_says(kind, options, words):
    rig = emulated_rig(kind, camera=False, **options)
    try:
        start = time.monotonic()
        with pytest.raises(FaceTwinError) as caught:
            rig.open()
        assert words in str(caught.value).lower()
        assert "\n" not in str(caught.value)
        assert time.monotonic() - start < 20
        assert rig.status.state == "closed"
        assert not rig.emulator.truth()["on"].any()
        assert rig.emulator.health()["done"] == 0
    finally:
        rig.close()
        rig.emulator.stop()


@pytest.mark.slow
@pytest.mark.parametrize("kind", TRIALS)
@every
def test_every_fault_on_every_driver(robot, kind):
    for seed in (11, 12):  # while the motors are switched on, and later
        assert trial(robot, kind, seed).troubles == []


@pytest.mark.slow
@every
def test_they_keep_to_the_contract(robot):
    check_rig(robot)
    check_rig(SafetyLayer(robot))


# --- nothing is left ---------------------------------------------------------------------------------

LEFT = """
import sys, time
from facetwin.hardware.emulated import emulated_rig
rig = emulated_rig("maestro", camera=False)
rig.open().activate()
rig.write(rig.spec.rest)
print(rig.emulator.path, *rig.emulator.pids(), flush=True)
{then}
"""


def _program(then: str) -> tuple[subprocess.Popen, str, list[int]]:
    program = subprocess.Popen(
        [sys.executable, "-c", LEFT.format(then=then)], stdout=subprocess.PIPE, text=True
    )
    path, *pids = program.stdout.readline().split()
    return program, path, [int(p) for p in pids]


@pytest.mark.parametrize(
    "how",
    [
        signal.SIGKILL,
        *(pytest.param(h, marks=pytest.mark.slow) for h in (signal.SIGTERM, signal.SIGINT, None)),
    ],
)
def test_the_robot_goes_with_the_program(how):
    program, path, pids = _program("time.sleep(60)" if how else "sys.exit(0)")
    if how:
        assert os.path.exists(path)
        assert all(alive(p) for p in pids)
        program.send_signal(how)
    program.wait(20)
    program.stdout.close()
    assert wait_until(lambda: not any(alive(p) for p in pids), 5.0)
    assert not os.path.exists(os.path.dirname(path))


@pytest.mark.slow
def test_a_closed_rig_goes_after_a_while_and_a_forgotten_one_at_once():
    rig = emulated_rig("maestro", camera=False)
    rig.open()
    pids, folder = rig.emulator.pids(), os.path.dirname(rig.emulator.path)
    rig.close()
    assert all(alive(p) for p in pids)
    rig.emulator.rest(0.2)
    assert wait_until(lambda: not any(alive(p) for p in pids), 3.0)
    assert not os.path.exists(folder)
    rig.open()  # a new one
    again = rig.emulator.pids()
    assert again != pids
    rig.close()
    del rig
    assert wait_until(lambda: not any(alive(p) for p in again), 3.0)


@pytest.mark.slow
def test_a_forked_child_leaves_the_robot_alone():
    rig = emulated_rig("maestro", camera=False)
    try:
        rig.open().activate()
        child = os.fork()
        if child == 0:
            rig.emulator.stop()
            os._exit(0)
        os.waitpid(child, 0)
        assert os.path.exists(rig.emulator.path)
        rig.write(rig.spec.rest)
        assert rig.emulator.health()["asked"] > 0
    finally:
        rig.close()
        rig.emulator.stop()


@pytest.mark.slow
def test_a_robot_that_died_is_told_and_replaced():
    rig = emulated_rig("maestro", camera=False)
    try:
        rig.open()
        (pid,) = rig.emulator.pids()
        os.kill(pid, signal.SIGKILL)
        assert wait_until(lambda: not rig.emulator.running, 2.0)
        with pytest.raises(FaceTwinError):
            rig.read()
        with pytest.raises(FaceTwinError, match="ended"):
            rig.emulator.health()
        with contextlib.suppress(RigFault):
            rig.close()
        rig.open()
        assert rig.emulator.health()["plugged"]
    finally:
        rig.close()
        rig.emulator.stop()


# --- with a camera -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.sim
def test_the_camera_sees_the_motors_move_and_anybody_may_look():
    rig = emulated_rig("dynamixel", body=2, size=64, solver="linear")
    try:
        rig.open().activate()
        em, travelled = rig.emulator, rig.spec.rest.copy()
        still = [rig.capture() for _ in range(3)]
        travelled[rig.spec.index("jaw")] = 0.9
        travel(rig, travelled, 1.5)
        still_there = time.monotonic()
        assert wait_until(lambda: rig.capture().time > still_there, 20.0)
        frame = rig.capture()
        assert frame.truth is None
        assert frame.mirrored
        delay = em.truth()["camera"]["delay"]
        assert delay <= time.monotonic() - frame.time < 10.0
        changed = np.abs(frame.image.astype(int) - still[-1].image).mean(axis=2)
        assert changed[40:].mean() > 3 * changed[:20].mean()  # mouth and forehead
        assert em.truth()["seen_position"][15] == pytest.approx(em.truth()["position"][15], abs=0.02)
        name = f"emulator:{em.eye_path}?width=64&height=64"
        eye = make_eye(name)
        eye.open()
        assert eye.look().image.shape == (64, 64, 3)
        eye.close()
        with pytest.raises(FaceTwinError, match="size"):
            make_eye(f"emulator:{em.eye_path}").open()
        pids = em.pids()
        assert len(pids) == 2
    finally:
        rig.close()
        rig.emulator.stop()
    assert not any(alive(p) for p in pids)
    with pytest.raises(FaceTwinError, match="no emulated camera"):
        make_eye(name).open()


# --- whose body it is --------------------------------------------------------------------------------


def test_a_seed_is_the_same_robot_whichever_calibration_the_driver_goes_by(tmp_path):
    from facetwin.twin.calibration.rig_file import write_rig

    write_rig(tmp_path / "face26.toml", "face26", {"motor.jaw.latency": 0.03, "material.young": 80e3})
    shipped = emulated_rig("maestro", body=3, camera=False)
    by_another = emulated_rig("maestro", body=3, camera=False, table=tmp_path / "face26.toml")
    assert by_another.spec.motors[by_another.spec.index("jaw")].latency == 0.03
    assert by_another.emulator.body == shipped.emulator.body
    assert by_another.emulator.drawn == shipped.emulator.drawn
    own = emulated_rig("maestro", body=3, camera=False, table=tmp_path / "face26.toml", like=by_another.spec)
    assert own.emulator.body != shipped.emulator.body
    exact = emulated_rig("maestro", body=0, camera=False, table=tmp_path / "face26.toml")
    assert exact.emulator.body == by_another.spec


def test_what_a_body_cannot_be_drawn_from():
    with pytest.raises(UsageError, match="other motors"):
        emulated_rig("maestro", camera=False, like="emo23")
    with pytest.raises(UsageError, match="the fast skin has learned one body"):
        emulated_rig("maestro", body=1, solver="fast")
    assert emulated_rig("maestro", body=0, solver="fast").status.state == CLOSED
