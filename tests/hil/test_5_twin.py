"""Rung 5: the twin against the rig, turns of three motors of each part of the face."""

from __future__ import annotations

import numpy as np
import pytest

from facetwin.cli.compare_record import play_program
from facetwin.cli.watcher import Watcher
from facetwin.hardware.safety import SafetyLayer
from facetwin.hardware.sim import SimRig
from facetwin.twin.calibration.compare import CLEAR, compare
from facetwin.twin.calibration.excitation import slots
from facetwin.twin.calibration.probes import program

pytestmark = [pytest.mark.hil, pytest.mark.rung(5, "twin against rig")]

#: s: by how much a latency may be off, of every motor by sensors, of all in the mean square by the mirror
SENSOR, MIRROR = 0.005, 0.005
#: by the mirror at most, for its mean square; fewer pictures a second than this tell times less well
WORST, RATE = 2.0, 15.0
#: slots of motors that have a turn: three of the neck, whose servos are of another model than the face's
SLOTS = 3
#: u
APART = 0.02


def test_twin_and_rig_are_near(active, bare, rig_name, tmp_path):
    if not (bare.capabilities.camera or bare.capabilities.measures):
        pytest.skip("nothing shows what this rig does")
    spec = bare.spec
    played = program(spec, [spec.names[i] for slot in slots(spec)[:SLOTS] for i in slot], clip=False)
    sides = {}
    with Watcher(gentle=True) as watcher:
        begin = active.clock.now()
        sides["rig"] = play_program(active, watcher, played, tmp_path / "rig", name=rig_name)
        truth = told_latency(bare, sides["rig"].side, begin) if bare.capabilities.emulated else None
    shape = bare.capabilities.camera
    size = None if shape is None else (shape[1], shape[0])
    with Watcher() as watcher, SafetyLayer(SimRig(spec, size=size, tick=0.001)) as twin:
        twin.activate()
        twin.home(0)
        folder = tmp_path / "twin"
        sides["twin"] = play_program(twin, watcher, played, folder, name="twin", look=shape is not None)
    found = compare(sides["twin"].side, sides["rig"].side, played)
    pictures = len(sides["rig"].side.data.picture_time)
    off = []
    for motor in found.motors:
        best = motor.best
        assert best is not None, motor.note
        assert 0.0 <= best.latency < 0.15, motor.name
        assert 0.7 < motor.gain < 1.4, motor.name
        if truth is not None:
            off.append(best.latency - truth[spec.index(motor.name)])
    print("latency off by ms:", [round(1e3 * x, 2) for x in off], "pictures:", pictures)
    if truth is not None and bare.capabilities.measures:
        assert np.abs(off).max() < SENSOR, off
    elif truth is not None:
        # a busy machine lets the emulated camera take fewer pictures
        share = min(1.0, pictures / (RATE * played.seconds))
        assert np.sqrt(np.mean(np.square(off))) < MIRROR / share, (off, pictures)
        assert np.abs(off).max() < WORST * MIRROR / share, (off, pictures)
    if found.groups:
        assert all(m.clear >= CLEAR for m in found.motors if m.by == "mirror")
        assert max(g.aligned for g in found.groups) < APART


def told_latency(bare, side, begin):
    """What the comparison should find, by the emulated robot's own account, s.

    From `write` to each servo's first motion, less what is known to be under way anyway.
    """
    told = bare.emulator.truth()["delay"]
    goals = bare.emulator.goals("done", since=begin)
    written = side.data.time - side.under_way
    wire = np.full(len(told), np.nan)
    for motor in np.unique(goals.motor):
        at = goals.time[goals.motor == motor] - side.zero
        place = np.searchsorted(written, at) - 1
        ok = (place >= 0) & (at <= written[-1] + 0.1)
        if ok.any():
            wire[motor] = np.median(at[ok] - written[place[ok]])
    return told + np.nan_to_num(wire, nan=float(np.nanmedian(wire))) - side.under_way
