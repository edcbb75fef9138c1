"""An outside package brings a rig, and a broken one brings nothing down."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parents[2] / "examples" / "plugin"


def run(target, *argv):
    path = os.pathsep.join([str(target), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *argv], capture_output=True, text=True, timeout=300, cwd=target,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip


def facetwin(target, *argv):
    return run(target, "-m", "facetwin.cli.main", *argv)


def add_plugin(target, name, scheme, value, code):
    """What an installer leaves behind: a module and its metadata."""
    (target / f"{name}.py").write_text(code)
    info = target / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[facetwin.hardware]\n{scheme} = {value}\n")


BROKEN = {
    "raises": ("raises:Rig", "raise RuntimeError('no licence file')", "RuntimeError: no licence file"),
    "quits": ("quits:Rig", "import sys\nsys.exit(4)", "SystemExit: 4"),
    "lacks": ("lacks:Rig", "", "AttributeError"),
    "number": ("number:Rig", "Rig = 7", "not a rig"),
    "syntax": ("syntax:Rig", "def (", "SyntaxError"),
}


def test_broken_plugins_are_shown_and_stop_nobody_else(tmp_path):
    for name, (value, code, _) in BROKEN.items():
        add_plugin(tmp_path, name, name, value, code)
    add_plugin(tmp_path, "thief", "sim", "thief:Rig", "print('loaded')")
    add_plugin(tmp_path, "talker", "talker", "talker:Rig",
               "print('hello')\nfrom facetwin.hardware.sim import SimRig as Rig")  # fmt: skip
    done = facetwin(tmp_path, "rig", "list", "--json")
    assert done.returncode == 0, done.stderr
    kinds = {kind["name"]: kind for kind in json.loads(done.stdout)["kinds"]}  # no 'hello' in it
    for name, (_, _, words) in BROKEN.items():
        assert words in kinds[f"{name}:"]["error"]
        assert kinds[f"{name}:"]["package"] == name
    assert kinds["talker:"]["error"] is None
    assert kinds["sim:"]["from"] == "facetwin.hardware.sim:SimRig"  # nobody takes a name of ours
    assert "thief:Rig is ignored" in kinds["sim:"]["note"]
    done = facetwin(tmp_path, "rig", "check", "raises:")
    assert done.returncode == 1
    error = done.stderr.strip().splitlines()[-1]
    assert "no licence file" in error
    assert "next:" in error
    done = facetwin(tmp_path, "rig", "list")
    assert done.returncode == 0
    lines = [line for line in done.stdout.splitlines() if line.split(":")[0] in BROKEN]
    assert len(lines) == len(BROKEN)
    assert sum("cannot be imported" in line for line in lines) == 4


def test_a_driver_that_fails_while_it_is_made_is_named(tmp_path):
    code = "from facetwin.hardware.rig import Rig\ndef make(x=''):\n    {}"
    add_plugin(tmp_path, "one", "one", "one:make", code.format("return 1 / 0"))
    add_plugin(tmp_path, "two", "two", "two:make", code.format("return 'a rig'"))
    add_plugin(tmp_path, "three", "three", "three:Rig", "from facetwin.hardware.rig import Rig")
    for name, words in (("one", "ZeroDivisionError"), ("two", "not a rig; found str"), ("three", "")):
        done = facetwin(tmp_path, "rig", "check", f"{name}:")
        assert done.returncode in (1, 2)
        assert len(done.stderr.strip().splitlines()) <= 2  # pybullet says when it was built
        assert words in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_example_is_installed_listed_opened_and_checked(tmp_path):
    target = tmp_path / "site"
    source = tmp_path / "source"
    subprocess.run(["cp", "-r", str(PLUGIN), str(source)], check=True)  # a build leaves things beside it
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--target", str(target))
    done = run(tmp_path, "-m", "pip", "install", *options, str(source))
    assert done.returncode == 0, done.stderr
    add_plugin(target, "sibling", "sibling", "sibling:Rig", "raise ImportError('half installed')")
    done = facetwin(target, "rig", "list", "--json")
    kinds = {kind["name"]: kind for kind in json.loads(done.stdout)["kinds"]}
    assert kinds["blinkbox:"]["error"] is None
    assert kinds["blinkbox:"]["package"] == "facetwin-blinkbox"
    assert "half installed" in kinds["sibling:"]["error"]
    with subprocess.Popen(
        [sys.executable, "-m", "facetwin_blinkbox.box", "--port", "0"], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(target)},
    ) as box:  # fmt: skip
        try:
            name = box.stdout.readline().strip()
            assert facetwin(target, "rig", "check", name).returncode == 2  # it may hurt
            done = facetwin(target, "rig", "check", name, "--may-move", "--json")
            assert done.returncode == 0, done.stderr
            assert len(json.loads(done.stdout)["bare"]["passed"]) >= 16
        finally:
            box.kill()
    done = run(target, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(source / "tests"))
    assert done.returncode == 0, done.stdout
