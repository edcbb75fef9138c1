"""facetwin rig: the list, and the check of a simulated rig."""

from __future__ import annotations

import json

import pytest

from facetwin.cli.main import main


def test_list(capsys):
    assert main(["rig", "list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"name": "sim:", "from": "facetwin.hardware.sim:SimRig", "error": None} in found["kinds"]
    assert {t["name"]: t["motors"] for t in found["tables"]} == {"emo23": 23, "face26": 26}


@pytest.mark.parametrize("name", ["simm:", "sim:nobody", "sim:?sise=3", "nowhere.toml", "sim26"])
def test_no_such_rig(name, capsys):
    assert main(["rig", "check", name]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.sim
@pytest.mark.slow
def test_check(capsys):
    assert main(["rig", "check", "sim:?size=64", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"bare", "behind the safety layer"}
