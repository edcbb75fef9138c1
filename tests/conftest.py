"""What all tests share: the environment, where the data is, which tests plain `pytest` leaves out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# before anything imports numpy, OpenGL or torch
os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
for _pool in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LP_NUM_THREADS"):
    os.environ.setdefault(_pool, "1")

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rig", default=None, help="rig for the tests marked hil, e.g. maestro:/dev/ttyACM0")
    parser.addoption("--may-move", action="store_true", help="the rig may move: its surroundings are clear")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Workers of `-n auto`: one a core; none for a rig, whose tests are rungs of one ladder."""
    return 0 if config.getoption("--rig") else min(4, os.cpu_count() or 1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    asked = config.getoption("-m") or ""
    for item in items:
        # what keeps time with programs of its own stays with one worker (`--dist loadgroup`)
        if item.path.is_relative_to(REPOSITORY / "tests" / "hardware"):
            item.add_marker(pytest.mark.xdist_group("hardware"))
        if "slow" in item.keywords and "slow" not in asked:
            item.add_marker(pytest.mark.skip(reason="slow: run it with -m slow"))
        # asked for by marker, a missing rig is a failure (fixture `rig_name`), not a skip
        if "hil" in item.keywords and "hil" not in asked and not config.getoption("--rig"):
            item.add_marker(pytest.mark.skip(reason="needs a rig: run it with --rig NAME"))
        if "gpu" in item.keywords and "gpu" not in asked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device: run it with -m gpu"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real recordings (grid_s1, speech); the test is skipped where it is absent."""
    folder = Path(os.environ.get("FACETWIN_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (folder / "grid_s1").is_dir():
        pytest.skip(f"no recordings at {folder}: put grid_s1 there or set FACETWIN_DATA")
    return folder


@pytest.fixture(scope="session")
def rig_name(request: pytest.FixtureRequest) -> str:
    """The rig given by --rig; fails without one, since only a test that was asked for gets here."""
    name = request.config.getoption("--rig")
    if not name:
        pytest.fail("a hil test was asked for without a rig; next: pytest -m hil --rig NAME")
    return str(name)
