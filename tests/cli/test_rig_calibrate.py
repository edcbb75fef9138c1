"""facetwin rig excite and rig calibrate: the round trip on recordings, and bad ones refused in one line."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from facetwin.cli.main import main
from facetwin.hardware.recording import RecordingWriter
from facetwin.hardware.rig import RigState
from facetwin.twin.calibration.excitation import RATE, turn
from facetwin.twin.face import load_face
from facetwin.twin.landmarks import align, canonical, fit_unit
from facetwin.twin.servo import ServoBank
from facetwin.twin.skin.fast import FastSkin
from facetwin.twin.spec import load_rig

pytestmark = pytest.mark.sim

FACE = load_rig("face26")
MOVED = ("jaw", "upper_lip_roll", "left_corner_stretch")
WRONG = {"motor.jaw.scale": 1.12, "motor.jaw.latency": 0.03, "motor.left_corner_stretch.scale": 0.85,
         "motor.upper_lip_roll.trim": 0.06}  # fmt: skip


def record(folder, spec, table=FACE):
    """A rig with `spec`'s servos that believes in `table`, seen by geometry on the fast skin."""
    face = load_face()
    skin = FastSkin.load(FACE, face)
    bank = ServoBank(spec, 0.005)
    bank.reset(spec.rest)
    pieces = [np.tile(spec.rest, (30, 1))]
    for name in MOVED:
        piece = np.tile(spec.rest, (220, 1))
        piece[:, spec.index(name)] = turn(spec.rest[spec.index(name)], 0.0, 1.0)
        pieces.append(piece)
    wild = np.tile(spec.rest, (12, 1))
    rng = np.random.default_rng(0)
    for name in MOVED:
        wild[:, spec.index(name)] = np.clip(spec.rest[spec.index(name)] + rng.normal(0, 0.25, 12), 0, 1)
    asked = np.concatenate([*pieces, np.repeat(wild, 12, axis=0)])
    unit = None
    unknown = np.full(spec.size, np.nan)
    with RecordingWriter(folder, table, fps=12.5, meta={"landmarks": "geometry"}) as recording:
        for k, command in enumerate(asked):
            time = k / RATE
            state = RigState(time, command, bank.shaft, unknown, unknown, unknown)
            recording.write(time, command, command, state)
            if k % 4 == 0:
                seen = canonical() * face.metres_per_u
                seen[:468] = skin.shape(bank.position).vertices[:468]
                pixels = seen * (1, -1, -1)
                unit = unit or fit_unit(pixels)
                number = recording.picture(time, np.zeros((32, 32, 3), np.uint8))
                recording.landmarks(number, align(pixels, unit=unit), np.zeros(3))
            for _ in range(4):
                bank.step(command)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded") / "rig"
    record(folder, FACE.with_(WRONG))
    return folder


def test_round_trip(recording, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["rig", "calibrate", str(recording), "--out", str(out), "--adapt", "0", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["scores"]["held_out"]["ratio"] < 0.35
    found = load_rig(out / "face26.toml")
    assert found == FACE.with_(result["changed"])
    assert all(key.split(".")[1] in MOVED for key in result["changed"] if key.startswith("motor."))
    for key, value in WRONG.items():
        assert result["changed"][key] == pytest.approx(value, abs=0.02)
    assert any("lower_lip_roll: left alone" in note for note in result["notes"])
    report = (out / "report.html").read_text()
    assert "data:image/png;base64," in report
    assert "http" not in report.replace("http-equiv", "")
    assert sorted(p.name for p in out.iterdir()) == [
        "curves.png", "face26.toml", "motors.png", "parameters.png", "report.html",
    ]  # fmt: skip


def test_another_rigs_table(recording, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]
    assert main(["rig", "calibrate", str(recording), "--rig", "emo23", *out]) == 2
    wrong = capsys.readouterr().err
    assert "another rig's table" in wrong
    assert wrong.count("\n") == 1
    assert not (tmp_path / "out").exists()


def spoil(recording, folder, table, change):
    shutil.copytree(recording, folder)
    file = folder / f"{table}.parquet"
    pq.write_table(change(pq.read_table(file)), file)
    return folder


def frozen(table):
    column = table["landmarks"]
    index = table.schema.get_field_index("landmarks")
    return table.set_column(index, table.schema.field(index), column.take([0] * len(column)))


def backwards(table):
    times = table["time"].to_numpy()[::-1]
    import pyarrow as pa

    return table.set_column(0, table.schema.field(0), pa.array(times))


@pytest.mark.parametrize(
    ("table", "change", "says"),
    [
        ("rows", lambda t: t.drop_columns(["sent"]), "missing column"),
        ("landmarks", lambda t: t.drop_columns(["turn"]), "missing column"),
        ("frames", lambda t: t.drop_columns(["time"]), "missing column"),
        ("rows", backwards, "runs backwards"),
        ("landmarks", frozen, "camera was frozen"),
        ("rows", lambda t: t.slice(0, 100), "too short"),
    ],
)
def test_bad_recordings(recording, tmp_path, capsys, table, change, says):
    folder = spoil(recording, tmp_path / "bad", table, change)
    assert main(["rig", "calibrate", str(folder), "--out", str(tmp_path / "out")]) == 2
    wrong = capsys.readouterr().err
    assert says in wrong
    assert wrong.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_excite_refuses(recording, tmp_path, capsys):
    for argv, says in (
        (["--fps", "60"], "no such rate"),
        (["--seconds", "5"], "too short"),
        (["--out", str(recording)], "recording already"),
    ):
        given = argv if "--out" in argv else [*argv, "--out", str(tmp_path / "x")]
        assert main(["rig", "excite", "sim:?solver=linear", *given]) == 2
        wrong = capsys.readouterr().err
        assert says in wrong
        assert wrong.count("\n") == 1
        assert not (tmp_path / "x" / "meta.json").exists()


@pytest.mark.slow
def test_excite_then_calibrate(tmp_path, capsys):
    """The whole way with a camera and a tracker, on a linear skin."""
    folder, out = tmp_path / "rec", tmp_path / "out"
    assert main(["rig", "excite", "sim:?solver=linear", "--fps", "5", "--out", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["found"] > 0.9
    noise = FACE.cameras["mirror"].noise
    assert json.loads((folder / "meta.json").read_text())["noise"] == pytest.approx(noise, rel=0.05)
    argv = [
        "rig",
        "calibrate",
        str(folder),
        "--out",
        str(out),
        "--replay",
        "60",
        "--refine",
        "0",
        "--check",
        "8",
    ]
    assert main([*argv, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["closed"]["pictures"] > 4
    assert result["camera"]["pixels"]["after"] < 0.01  # of full brightness
    assert result["changed"]["camera.mirror.noise"] == pytest.approx(noise, rel=0.05)
    assert (out / "film.png").stat().st_size > 10_000
    assert load_rig(out / "face26.toml") == FACE.with_(result["changed"])
