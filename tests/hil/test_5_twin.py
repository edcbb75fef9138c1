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
WORST, RATE = 1.4, 15.0
#: recordings where only the mirror tells, as `rig compare` makes by itself
TURNS = 2
#: slots of motors that have a turn: three of the neck, whose servos are of another model than the face's
SLOTS = 3
#: u
APART = 0.02


def test_twin_and_rig_are_near(active, bare, rig_name, tmp_path):
    if not (bare.capabilities.camera or bare.capabilities.measures):
        pytest.skip("nothing shows what this rig does")
    spec = bare.spec
    played = program(spec, [spec.names[i] for slot in slots(spec)[:SLOTS] for i in slot], clip=False)
    recordings, truths = [], []
    with Watcher(gentle=True) as watcher:
        for turn in range(1 if bare.capabilities.measures else TURNS):
            begin = active.clock.now()
            folder = tmp_path / f"rig-{turn}"
            recordings.append(play_program(active, watcher, played, folder, name=rig_name).side)
            if bare.capabilities.emulated:
                truths.append(told_latency(bare, recordings[-1], begin))
    shape = bare.capabilities.camera
    size = None if shape is None else (shape[1], shape[0])
    with Watcher() as watcher, SafetyLayer(SimRig(spec, size=size, tick=0.001)) as twin:
        twin.activate()
        twin.home(0)
        folder = tmp_path / "twin"
        own = play_program(twin, watcher, played, folder, name="twin", look=shape is not None).side
    found = compare(own, recordings[0], played, recordings[1:])
    for motor in found.motors:
        best = motor.best
        assert best is not None, motor.note
        assert 0.0 <= best.latency < 0.15, motor.name
        assert 0.7 < motor.gain < 1.4, motor.name
    if truths:
        told = np.mean(truths, axis=0)[[spec.index(motor.name) for motor in found.motors]]
        off = np.array([motor.best.latency for motor in found.motors]) - told
        pictures = min(len(recording.data.picture_time) for recording in recordings)
        print("latency off by ms:", np.round(1e3 * off, 2), pictures, "pictures")
        if bare.capabilities.measures:
            assert np.abs(off).max() < SENSOR, off
        else:
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
