"""The calibrated twin held against a film: what is found, what is left alone, and a film that is torn."""

from __future__ import annotations

import numpy as np
import pytest

from facetwin.cli.calibration_film import fit_film, moving_views
from facetwin.cli.rig_calibrate import observe
from facetwin.hardware.recording import Recording, RecordingWriter
from facetwin.hardware.rig import RigState
from facetwin.twin.calibration.excitation import RATE, turn
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.face import load_face
from facetwin.twin.landmarks import align, canonical, fit_unit
from facetwin.twin.raster import RasterCamera
from facetwin.twin.servo import ServoBank
from facetwin.twin.spec import load_rig
from facetwin.twin.twin import FaceTwin

pytestmark = pytest.mark.sim

FACE = load_rig("face26")
MOVED = ("jaw", "left_upper_lid", "right_inner_brow")
WRONG = {"motor.jaw.scale": 1.15, "motor.left_upper_lid.trim": -0.08, "motor.right_inner_brow.scale": 0.85}
SHOWN = 8  #: pictures that are drawn


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """15 s of a rig whose horns are other than its table's, recorded with its pictures."""
    folder = tmp_path_factory.mktemp("filmed") / "rig"
    rig, face = FACE.with_(WRONG), load_face()
    bank = ServoBank(rig, 0.005)
    bank.reset(rig.rest)
    pieces = [np.tile(rig.rest, (30, 1))]
    for name in MOVED:
        piece = np.tile(rig.rest, (220, 1))
        piece[:, rig.index(name)] = turn(rig.rest[rig.index(name)], 0.0, 1.0)
        pieces.append(piece)
    unknown = np.full(rig.size, np.nan)
    pixels = canonical() * face.metres_per_u * (1, -1, -1)
    seen, unit = align(pixels, unit=fit_unit(pixels)), fit_unit(pixels)
    assert unit > 0
    with (
        RecordingWriter(folder, FACE, fps=10, meta={"landmarks": "geometry"}) as recording,
        FaceTwin(rig) as twin,
        RasterCamera(face, rig.cameras["mirror"], size=(128, 128)) as camera,
    ):
        for k, command in enumerate(np.concatenate(pieces)):
            time = k / RATE
            recording.write(time, command, command, RigState(time, command, bank.shaft, *[unknown] * 3))
            if k % 5 == 0:
                state = twin.move(bank.position)
                number = recording.picture(time, camera.render(state.vertices, state.poses))
                recording.landmarks(number, seen + 1e-5 * k, np.zeros(3))
            for _ in range(4):
                bank.step(command)
    recording = Recording(folder)
    data = observe(recording, FACE)
    train = np.flatnonzero(data.split()[0])
    return recording, data, train[np.linspace(0, len(train) - 1, SHOWN).astype(int)]


def test_horns_are_found(film):
    recording, data, numbers = film
    changes, known, off = fit_film(recording, data, FACE, FACE, numbers, 1)
    assert off[1] < 0.5 * off[0]
    for key, value in WRONG.items():
        before = 1.0 if key.endswith("scale") else 0.0
        assert abs(changes[key] - value) < 0.5 * abs(before - value), key
        assert known[key] < 0.9
    # what never moved has no scale to be found, and the camera is as it was
    assert "motor.neck_yaw.scale" not in changes
    assert changes["camera.mirror.exposure"] == pytest.approx(1.0, abs=0.02)
    FACE.with_(changes)


def test_a_torn_film(film, monkeypatch):
    recording, data, numbers = film
    whole = list(recording.pictures())
    monkeypatch.setattr(Recording, "pictures", lambda _: iter(whole[: numbers[2] + 1]))
    views = moving_views(recording, data, FACE, FACE, numbers)
    assert len(views.film) == len(views.positions) == len(views.vertices) == 3
    monkeypatch.setattr(Recording, "pictures", lambda _: iter(()))
    with pytest.raises(FaceTwinError, match="the film is empty"):
        moving_views(recording, data, FACE, FACE, numbers)
