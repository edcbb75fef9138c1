"""facetwin rig compare: what it refuses, in one line, before anything moves; ranks and the report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facetwin.cli import rig_compare
from facetwin.cli.compare_controllers import Contest, agreement, scores
from facetwin.cli.compare_record import play_program
from facetwin.cli.main import main
from facetwin.hardware.pace import Paced
from facetwin.hardware.rig import Capabilities, Frame
from facetwin.hardware.sim import SimRig
from facetwin.policies.closed_loop import KEPT, Seen
from facetwin.policies.rivals import RIVALS
from facetwin.twin.calibration.compare import Side, compare
from facetwin.twin.calibration.observed import Observed
from facetwin.twin.calibration.probes import RATE, program
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.landmarks import canonical, indices
from facetwin.twin.spec import load_rig

FACE = load_rig("face26")


class Blank:
    """A face without a picture."""

    def move(self, position):
        from types import SimpleNamespace

        return SimpleNamespace(vertices=np.zeros((1, 3)), gap=0.0)

    def picture(self, state):
        return np.zeros((8, 8, 3), np.uint8)

    def reset(self):
        pass

    def close(self):
        pass


def pixels(drop=0.0):
    face = canonical().copy()
    face[14, 1] -= drop
    return (face * (100, -100, -100) + (128, 128, 0)).astype(np.float32)


class Canned:
    """Instead of a tracker: an answer to the k-th picture."""

    def __init__(self, answer):
        self._answer, self._given, self._asked = answer, 0, 0

    def put(self, image, mirrored=False):
        self._asked += 1

    def ready(self):
        while self._given < self._asked:
            yield self._answer(self._given)
            self._given += 1

    some = finish = ready


def one_line(capsys, *words, code=2):
    assert main(["rig", "compare", *words]) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    return said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--fps", "0"], "no such rate"), (["--size", "10"], "no such size"),
        (["--seconds", "1"], "no such length"), (["--motors", "nose"], "no such motor"),
        (["sim:", "--twin", "sim:emo23"], "other motors"),
    ],
)  # fmt: skip
def test_asked_wrongly(capsys, tmp_path, words, says):
    assert says in one_line(capsys, *words, "--out", str(tmp_path / "out"))


def test_a_rig_that_shows_nothing_and_one_that_may_not_move():
    class Dark(SimRig):
        able = Capabilities(simulated=False, measures=False, camera=None)

        @property
        def capabilities(self):
            return self.able

    rig = Dark(FACE, twin=Blank(), size=8)
    with pytest.raises(UsageError, match="nothing would show what this rig does"):
        rig_compare.check_able(rig, "dark:", may_move=True)
    rig.able = replace(rig.able, measures=True)
    with pytest.raises(UsageError, match=r"moves the rig.*--may-move"):
        rig_compare.check_able(rig, "dark:", may_move=False)
    rig_compare.check_able(rig, "dark:", may_move=True)


def test_a_frozen_camera_and_one_without_a_face(tmp_path):
    played = program(FACE, ["jaw"], clip=False)
    with SimRig(FACE, twin=Blank(), size=8) as rig:
        rig.activate()
        with pytest.raises(FaceTwinError, match="the camera was frozen"):
            play_program(rig, Canned(lambda k: pixels()), played, tmp_path / "a", name="rig")
        with pytest.raises(FaceTwinError, match="no face in the mirror"):
            play_program(rig, Canned(lambda k: None), played, tmp_path / "b", name="rig")

    class Stopped(SimRig):
        def _capture(self):
            frame = super()._capture()
            self.first = getattr(self, "first", frame.time)
            return Frame(frame.image, frame.mirrored, min(frame.time, self.first + 2.5), frame.truth)

    with Stopped(FACE, twin=Blank(), size=8) as rig:
        rig.activate()
        with pytest.raises(FaceTwinError, match=r"the camera is frozen; found the same picture for 4 s"):
            play_program(rig, Canned(lambda k: pixels(k * 1e-4)), played, tmp_path / "c", name="rig")


def test_a_program_is_recorded_as_calibration_wants_it(tmp_path):
    from facetwin.cli.rig_calibrate import observe
    from facetwin.hardware.recording import Recording

    played = program(FACE, ["jaw"], babble=3.0)
    with SimRig(FACE, twin=Blank(), size=8) as rig:
        rig.activate()
        done = play_program(
            rig, Canned(lambda k: pixels(0.05 * np.sin(k))), played, tmp_path / "r", name="rig"
        )
    data = observe(Recording(tmp_path / "r"), FACE)
    assert len(data.time) == len(played.commands)
    assert np.diff(data.time) == pytest.approx(1 / RATE, abs=1e-6)
    assert np.array_equal(data.sent, np.asarray(done.side.data.sent, np.float32))
    assert done.side.measures
    assert done.paced.missed == 0
    assert np.diff(data.picture_time).min() > 0.8 / 25


def contest(frames=50, seed=0):
    rng = np.random.default_rng(seed)
    way = np.cumsum(rng.normal(0, 0.01, frames))
    wish = np.zeros((frames, 63, 2), np.float32)
    low = list(indices("speech63")).index(14)
    wish[:, low, 1] = way
    return Contest(wish, {name: np.zeros((frames, 26), np.float32) for name in RIVALS})


def seen_of(asked, quality, seed):
    """What a mirror shows of a controller that does `quality` of the wish and else wanders."""
    rng = np.random.default_rng(seed)
    rest = canonical().astype(np.float32)
    points = np.repeat(rest[KEPT][None], len(asked.wish), 0)
    low = list(indices("speech63")).index(14)
    drift = np.cumsum(rng.normal(0, 0.01, len(points)))
    points[:, np.searchsorted(KEPT, 14), 1] += quality * asked.wish[:, low, 1] + (1 - quality) * drift
    return Seen(rest, points.astype(np.float32), np.ones(len(points), bool))


def test_ranks():
    asked = contest()
    qualities = np.linspace(1, 0, len(RIVALS))
    same, mixed = (
        scores(asked, {n: seen_of(asked, q, k) for k, (n, q) in enumerate(zip(RIVALS, order))})
        for order in (qualities, qualities[::-1])
    )
    assert same[RIVALS[0]]["opening correlation"] == pytest.approx(1.0, abs=1e-6)
    assert same[RIVALS[0]]["lip distance"] == pytest.approx(0.0, abs=1e-6)
    alike, unlike = agreement(same, same), agreement(same, mixed)
    for metric in alike:
        assert alike[metric]["pearson"] == pytest.approx(1.0)
        assert alike[metric]["mmrv"] == 0.0
        assert unlike[metric]["mmrv"] > 0.5 * unlike[metric]["spread_on_rig"]
    json.dumps(unlike, allow_nan=False)


def test_report_is_whole_and_loads_nothing(tmp_path, capsys):
    from facetwin.cli.compare_record import Played
    from facetwin.cli.compare_report import print_result, write_report
    from facetwin.twin.servo import ServoBank

    played = program(FACE, ["jaw", "left_inner_brow"])
    bank = ServoBank(FACE.with_({"motor.jaw.latency": 0.04}), 0.001)
    bank.reset(FACE.rest)
    rows, left = [], 0.0
    for command in played.commands:
        rows.append(bank.shaft)
        left += 1000 / RATE
        for _ in range(int(left)):
            bank.step(command)
        left -= int(left)
    time = np.arange(len(rows)) / RATE
    none = np.zeros((0, 478, 3)), np.zeros((0, 3))
    data = Observed(time, played.commands, np.array(rows), np.zeros(0), *none)
    side = Side(FACE, data)
    done = Played(side, 1.0, Paced(RATE, len(rows), 0, *[0.0] * 8))
    first = compare(side, side, played), None
    result = {
        "rig": "x:", "twin": "sim:", "table": "face26", "seconds": played.seconds, "seed": 0, "unit": "u",
        "pictures": {"rig": 0, "twin": 0}, "measures": True, "kept_time": "in time", "notes": ["<a note>"],
        "compared": rig_compare.plain(first), "calibrated": None, "calibration": None,
    }  # fmt: skip
    result["files"] = write_report(tmp_path, result, first, None, done, done, played)
    latency = result["compared"]["motors"]["jaw"]["sensor"]["latency"]
    assert latency["value"] == pytest.approx(0.04, abs=0.002)
    page = (tmp_path / "report.html").read_text()
    assert "http" not in page.replace("http-equiv", "")
    assert "&lt;a note&gt;" in page
    assert json.loads((tmp_path / "comparison.json").read_text())["measures"] is True
    print_result(result)
    assert "jaw" in capsys.readouterr().out
    assert Path(result["files"][-1]).name == "report.html"
