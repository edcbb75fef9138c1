"""The PCA9685 driver against the firmware's own protocol code, behind a pty."""

from __future__ import annotations

import os
import select
import threading
import time

import numpy as np
import pytest
from firmware_host import GCC, Controller, load_library
from scripted_maestro import Line, Model, long_division

from facetwin.hardware.check import check_rig
from facetwin.hardware.pca9685 import Pca9685Rig
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.spec import load_rig

compiled = pytest.mark.skipif(GCC is None, reason="no g++: apt-get install g++")


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    return load_library(tmp_path_factory.mktemp("firmware"))


class Chips:
    """A pty with the firmware at its end, in real time."""

    def __init__(self, library, crc=False, asleep=0.0, version=None):
        self.controller, self.version = Controller(library, crc), version
        self.master, self.slave = os.openpty()
        os.set_blocking(self.master, False)
        import tty

        tty.setraw(self.slave)
        self.port, self.go, self.from_ = os.ttyname(self.slave), True, time.monotonic() + asleep
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        start = ticked = time.monotonic()
        while self.go:
            data = os.read(self.master, 4096) if select.select([self.master], [], [], 0.005)[0] else b""
            now = time.monotonic()
            if now < self.from_:  # its boot loader swallows what comes
                continue
            self.controller.now = int((now - start) * 1e3)
            answer = self.controller.say(data)
            while ticked + 0.01 < now:
                ticked += 0.01
                self.controller.tick()
            self.controller.watch(self.controller.now)
            if self.version and answer[:2] == b"FT":
                answer = b"FT" + bytes(self.version) + answer[6:7]
                answer += bytes([long_division(answer)])
            if answer:
                os.write(self.master, answer)

    def close(self):
        self.go = False
        self.thread.join(2)
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def chips(library):
    made = []

    def make(**more):
        made.append(Chips(library, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


@compiled
@pytest.mark.parametrize("crc", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_it_keeps_the_rules_of_every_rig(chips, crc):
    check_rig(Pca9685Rig(chips(crc=crc).port, crc=crc))


@compiled
def test_every_motor_gets_its_own_pulse(chips):
    end = chips()
    with Pca9685Rig(end.port) as rig:
        rig.activate()
        command = np.linspace(0.1, 0.9, 23)
        for _ in range(100):
            rig.write(command)
            rig.clock.sleep(0.01)
        assert not rig.read().faults
        for motor, units in zip(rig.spec.motors, rig.wiring.units(command)):
            assert end.controller.position(motor.bus, motor.channel) == units
            # emo23 is in hobby degrees, 500 to 2500 us over 180: so the published head's own numbers
        jaw = rig.spec.motors[rig.spec.index("jaw")]
        degrees = np.degrees(jaw.lower + jaw.span * command[rig.spec.index("jaw")])
        counts = end.controller.counts(jaw.bus, jaw.channel, 20000)
        assert counts * 20000 / 4096 == pytest.approx(
            500 + degrees * 2000 / 180, abs=20000 / 4096 / 2 + 0.125
        )
    assert all(end.controller.target(b, c) == 0 for b in (0, 1) for c in range(16))


def test_neighbours_go_together():
    """emo23 has another order than its channels: 0 to 3, 6 to 11, 14, 15; 0, 1, 4 to 7, 11 to 15."""
    rig = Pca9685Rig("/dev/nowhere")
    assert len(rig._packets[0]) == 6 * 5 + 2 * 23


@compiled
def test_outputs_go_off_when_the_program_is_silent(chips):
    end = chips()
    with Pca9685Rig(end.port, watchdog=0.2) as rig:
        rig.activate()
        for _ in range(20):  # reading keeps it quiet
            assert not rig.read().faults
            rig.clock.sleep(0.02)
        rig.clock.sleep(0.4)
        assert end.controller.target(0, 0) == 0
        faults = rig.read().faults
        assert any("serial timeout" in fault for fault in faults)


@compiled
def test_a_silent_chip_is_a_fault(chips):
    end = chips()
    with Pca9685Rig(end.port) as rig:
        rig.activate()
        getattr(end.controller, "raise")(1, 1 << 9)
        assert "servo chip does not answer" in rig.read().faults[0]


@compiled
def test_a_boot_loader_is_waited_for(chips):
    rig = Pca9685Rig(chips(asleep=0.6).port)
    rig.open()
    rig.close()


@compiled
@pytest.mark.parametrize(
    ("version", "says"),
    [
        ((2, 3, 2, 16), "firmware of another version; found 2.3, expected 1.x"),
        ((1, 7, 1, 16), "fewer channels than the rig table says; found 1 chips of 16"),
        ((1, 7, 2, 8), "fewer channels than the rig table says; found 2 chips of 8"),
    ],
)
def test_other_firmware_is_told(chips, version, says):
    rig = Pca9685Rig(chips(version=version).port)
    with pytest.raises(FaceTwinError, match=says) as caught:
        rig.open()
    assert "\n" not in str(caught.value)
    assert "next: " in str(caught.value)


@compiled
def test_a_newer_minor_version_will_do(chips):
    with Pca9685Rig(chips(version=(1, 9, 2, 16)).port) as rig:
        rig.activate()


def test_a_real_maestro_is_told_and_left_in_peace():
    line = Line(Model(12), Model(13))
    with pytest.raises(FaceTwinError, match=r"no PCA9685 firmware.*maestro:"):
        Pca9685Rig(line.port, timeout=0.15).open()
    assert not any(board.errors for board in line.boards)
    line.close()


@pytest.mark.parametrize("wrong", [{"watchdog": -1}, {"watchdog": 17}, {"watchdog": "on"}, {"port": "/a,/b"}])
def test_wrong_settings_are_refused_before_opening(wrong):
    given = {"port": "/dev/nowhere", **wrong}
    with pytest.raises(UsageError):
        Pca9685Rig(given.pop("port"), **given)


def test_face26_fits_too():
    rig = Pca9685Rig("/dev/nowhere", table="face26")
    assert [len(b.channels) for b in rig.boards] == [16, 10]
    assert load_rig("face26").size == rig.spec.size
