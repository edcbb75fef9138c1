"""Playing in real time: pictures count when they were exposed, and nobody waits for the tracker."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from facetwin.cli.backlog import Backlog
from facetwin.cli.live import FIRST, Nearest, Scribe, ahead
from facetwin.cli.perform import FPS, perform
from facetwin.cli.take import Take, play
from facetwin.cli.watcher import AHEAD
from facetwin.hardware.clock import SimClock
from facetwin.hardware.rig import Capabilities, Frame, Rig, RigState
from facetwin.hardware.safety import SafetyLayer
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.landmarks import canonical, opening
from facetwin.twin.spec import load_rig


class Wall(SimClock):
    """Time that a test can pass, though a rig must take it for the real one."""

    simulated = False


class WallRig(Rig):
    """A face in real time whose jaw goes where it is told at once; its camera has a rate and a delay.

    The picture's first pixel is how far the jaw is open.
    """

    def __init__(self, rate=30.0, delay=0.05):
        super().__init__(load_rig("face26"), Wall())
        self.rate, self.delay, self.way = rate, delay, [(0.0, self.spec.rest[15])]

    @property
    def capabilities(self):
        return Capabilities(simulated=False, measures=False, camera=(4, 4, 3))

    def _open(self):
        pass

    def _activate(self, present):
        pass

    def _write(self, command):
        self.way.append((self.clock.now() + self.spec.motors[15].latency, command[15]))

    def _read(self):
        n = np.full(self.spec.size, np.nan)
        return RigState(self.clock.now(), self._commanded.copy(), n, n, n, n)

    def _release(self):
        pass

    def _close(self):
        pass

    def _capture(self):
        exposed = np.floor((self.clock.now() - self.delay) * self.rate) / self.rate
        times, places = zip(*self.way)
        place = places[max(np.searchsorted(times, exposed, side="right") - 1, 0)]
        image = np.zeros((4, 4, 3), np.uint8)
        image[0, 0] = (*divmod(round(place * 65535), 256), 0)
        return Frame(image, False, float(exposed))


def landmarks(image):
    place = (int(image[0, 0, 0]) * 256 + int(image[0, 0, 1])) / 65535
    face = canonical().copy()
    face[14, 1] -= 0.2 * place
    return (face * (100, -100, -100) + (128, 128, 0)).astype(np.float32)


class Slow:
    """A tracker that answers one picture in three asks, and holds no more than the real one."""

    def __init__(self):
        self.jobs, self.asks = [], 0

    def put(self, image, mirrored=False):
        assert len(self.jobs) < AHEAD, "whoever takes pictures would have had to wait"
        self.jobs.append(image.copy())

    def ready(self):
        self.asks += 1
        if self.asks % 3 == 0 and self.jobs:
            yield landmarks(self.jobs.pop(0))

    def some(self):
        if self.jobs:
            yield landmarks(self.jobs.pop(0))

    def finish(self):
        while self.jobs:
            yield landmarks(self.jobs.pop(0))


def swing(spec, frames=100, hertz=0.7):
    commands = np.repeat(spec.rest[None], frames, 0)
    commands[:, 15] = 0.25 - 0.2 * np.cos(2 * np.pi * hertz * np.arange(frames) / FPS)
    return commands


@pytest.mark.parametrize("rate", [60.0, 30.0, 25.0, 14.0])
def test_what_was_seen_is_in_time_whatever_the_camera_is(rate):
    rig = SafetyLayer(WallRig(rate, delay=0.07))
    commands = swing(rig.spec)
    take, numbers = Take(), []
    with rig, Backlog(Slow()) as backlog:
        rig.activate()
        play(rig, backlog, iter([commands]), take, seen=lambda number, *_: numbers.append(number))
        assert rig.status.state == "held"
    assert numbers == list(range(100))
    seen = take.seen()
    assert len(seen) == 100
    assert seen.found.mean() > (0.99 if rate >= 25 else 0.7)
    shown = opening(seen.faces()) - opening(seen.rest)
    wanted = 0.2 * (commands[:, 15] - commands[0, 15])
    # the servo's lag is undone for a servo that has none here: allow what that leads by
    lags = np.arange(-4, 5)
    fits = [np.corrcoef(shown[10:90], wanted[10 + k : 90 + k])[0, 1] for k in lags]
    assert abs(lags[int(np.argmax(fits))]) <= 1
    assert max(fits) > 0.995


def test_each_picture_is_looked_at_once_and_shots_come_in_order():
    rig = SafetyLayer(WallRig(10.0))
    with rig:
        rig.activate()
        shots = list(perform(rig, iter([swing(rig.spec, 50)])))
    due = [round(s.time * FPS) for s in shots]
    spoken = [d for d in due if d >= 0]
    assert spoken == list(range(50))
    assert due[: len(due) - 50] == sorted(due[: len(due) - 50])
    assert max(abs(s.exposed - s.time) for s in shots if s.time >= 0) <= 0.06
    ticks = [t.time for s in shots for t in s.ticks]
    assert np.diff(ticks) == pytest.approx(0.02)


def test_nearest_waits_for_a_nearer_one_but_not_for_ever():
    def frame(time):
        return Frame(np.zeros((1, 1, 3), np.uint8), False, time)

    nearest = Nearest()
    assert nearest.at(0.0, 10.0) is None
    nearest.put(frame(0.9))
    assert nearest.at(1.0, 1.0) is None
    nearest.put(frame(1.06))
    assert nearest.at(1.0, 1.1).time == 1.06
    assert nearest.at(0.95, 1.1).time == 0.9
    nearest.put(frame(0.5))  # an older one changes nothing
    assert nearest.last.time == 1.06
    assert nearest.at(2.0, 2.1) is None
    assert nearest.at(2.0, 2.5).time == 1.06


def test_commands_are_made_before_a_real_face_begins():
    made = []

    def pieces():
        for k in range(FIRST + 5):
            made.append(k)
            yield np.full((1, 1), k)

    source = ahead(SimpleNamespace(clock=Wall()), pieces())
    assert made == list(range(FIRST))
    assert [int(p[0, 0]) for p in source] == list(range(FIRST + 5))


def test_a_scribe_keeps_order_and_tells_what_went_wrong():
    done = []
    with Scribe() as scribe:
        for k in range(100):
            scribe.do(done.append, k)
        scribe.finish()
        assert done == list(range(100))
        scribe.finish()
    scribe = Scribe()
    scribe.do(int, "x")
    scribe.do(done.append, -1)
    with pytest.raises(ValueError, match="invalid literal"):
        scribe.finish()
    assert done[-1] == 99


def test_backlog_packs_without_loss():
    class Keep(Slow):
        def __init__(self):
            super().__init__()
            self.got = []

        def put(self, image, mirrored=False):
            super().put(image, mirrored)
            self.got.append((image.copy(), mirrored))

    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (5, 7, 3), dtype=np.uint8) for _ in range(40)]
    keep = Keep()
    with Backlog(keep) as backlog:
        answers = []
        for k, image in enumerate(images):
            backlog.put(image, mirrored=k % 2 == 0)
            image_before = image.copy()
            image[:] = 0  # a camera may use its buffer again
            images[k] = image_before
            answers += backlog.ready()
        answers += backlog.finish()
        assert backlog.most > 1
    assert len(answers) == 40
    assert all(np.array_equal(a, b) for (a, _), b in zip(keep.got, images))
    assert [m for _, m in keep.got] == [k % 2 == 0 for k in range(40)]


def test_no_face_is_one_line():
    rig = SafetyLayer(WallRig())

    class Blind(Slow):
        def finish(self):
            yield from (None for _ in range(len(self.jobs)))
            self.jobs = []

        some = ready = finish

    with rig, Backlog(Blind()) as backlog:
        rig.activate()
        with pytest.raises(FaceTwinError, match="no face in the mirror"):
            play(rig, backlog, iter([swing(rig.spec, 30)]), Take())
