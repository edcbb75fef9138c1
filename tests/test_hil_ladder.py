"""The ladder of hardware tests itself: asked for without a rig it fails, above a broken rung it skips."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
LADDER = """
import pytest
pytestmark = pytest.mark.hil

@pytest.mark.rung(1, "first")
def test_one(bare): assert bare.status.state == "closed"

@pytest.mark.rung(2, "second")
def test_two(): assert False

@pytest.mark.rung(2, "second")
def test_beside(layer): assert layer.status.state == "open"

@pytest.mark.rung(3, "third")
def test_three(): raise AssertionError("never reached")

@pytest.mark.rung(1, "first")
@pytest.mark.needs("emulated")
def test_four(): raise AssertionError("never reached")

@pytest.mark.rung(2, "second")
def test_ill(layer): layer.fault = "too hot"
"""


def run(folder, *words):
    """Exit code and output of pytest -m hil on a copy of the ladder's conftest and the tests above."""
    for name in ("tests/conftest.py", "tests/hil/conftest.py", "pyproject.toml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, folder / name)
    (folder / "tests" / "hil" / "test_rungs.py").write_text(LADDER)
    command = [sys.executable, "-m", "pytest", "-rA", "-m", "hil", "-p", "no:cacheprovider",
               "-c", str(folder / "pyproject.toml"), *words, str(folder / "tests")]  # fmt: skip
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout


def test_ladder(tmp_path):
    code, said = run(tmp_path, "--rig", "sim:")
    assert code == 1
    # what is ill has passed by itself: its teardown fails
    assert "1 failed, 3 passed, 2 skipped, 1 error" in said.splitlines()[-1]
    assert "rung 2 failed: second: test_two" in said
    assert "this rig is not emulated" in said
    assert "a fault is latched: too hot" in said
    assert "never reached" not in said


def test_asked_for_without_a_rig(tmp_path):
    code, said = run(tmp_path)
    assert code == 1
    assert "a hil test was asked for without a rig; next: pytest -m hil --rig NAME" in said
