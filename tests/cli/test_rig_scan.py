"""facetwin rig scan: what it says of ports, and of boards that answer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "hardware"))  # for scripted_maestro.py
from scripted_maestro import Line, Model

from facetwin.cli.main import main


@pytest.fixture
def no_ports(monkeypatch):
    monkeypatch.setattr("serial.tools.list_ports.comports", list)


@pytest.fixture
def line():
    made = []

    def make(*models, **more):
        made.append(Line(*models, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_no_ports(no_ports, capsys):
    assert main(["rig", "scan"]) == 0
    out = capsys.readouterr().out
    assert "no serial ports" in out
    assert "power" in out
    assert main(["rig", "scan", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"ports": []}


def test_a_board_by_its_ids(monkeypatch, capsys):
    port = SimpleNamespace(device="/dev/ttyACM7", description="Mini Maestro", vid=0x1FFB, pid=0x008A,
                           serial_number="1", location="1-1:1.0")  # fmt: skip
    monkeypatch.setattr("serial.tools.list_ports.comports", lambda: [port])
    assert main(["rig", "scan"]) == 0
    out = capsys.readouterr().out
    assert "maestro:/dev/ttyACM7" in out
    assert "1ffb:008a" in out
    assert "next: " in out


@pytest.mark.parametrize("crc", [False, True])
def test_boards_that_answer(line, crc, no_ports, capsys):
    end = line(Model(12), Model(13, errors=8), crc=crc)
    assert main(["rig", "scan", end.port, "--probe", "--kind", "maestro", "--json"]) == 0
    (port,) = json.loads(capsys.readouterr().out)["ports"]
    assert [(a["kind"], a["id"], a["crc"]) for a in port["answers"]] == [
        ("maestro", 12, crc),
        ("maestro", 13, crc),
    ]
    assert port["answers"][1]["errors"] == ["serial CRC error"]
    assert {command for board in end.boards for command, _ in board.log} == {0xA1}  # asked, and no more
    assert main(["rig", "scan", end.port, "--probe"]) == 0
    out = capsys.readouterr().out
    assert "answers: Maestro 12" in out
    assert f'"maestro:{end.port}' in out


def test_a_board_with_another_number(line, no_ports, capsys):
    end = line(Model(77))
    assert main(["rig", "scan", end.port, "--probe"]) == 0
    assert "answers: Maestro (" in capsys.readouterr().out


def test_nobody_answers(line, no_ports, capsys):
    end = line(Model(12, silent=True))
    assert main(["rig", "scan", end.port, "--probe", "--kind", "maestro"]) == 0
    assert "answers" not in capsys.readouterr().out


def test_an_echo(line, no_ports, capsys):
    end = line(Model(12))
    end.echo = True
    assert main(["rig", "scan", end.port, "--probe", "--kind", "maestro"]) == 0
    assert "gives back what is sent" in capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong", [["/dev/nowhere9"], ["--kind", "servo"], ["--baud", "5"], ["--baud", "fast"], ["--prob"]]
)
def test_wrong_questions(wrong, no_ports, capsys):
    assert main(["rig", "scan", *wrong]) in (1, 2)
    assert capsys.readouterr().err.count("\n") == 1
