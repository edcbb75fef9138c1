"""An outside package brings a rig, and a broken one brings nothing down."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from facetwin.cli.main import main

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
    "raises_box": (
        "raises_box:Rig",
        "raise RuntimeError('no licence file')",
        "RuntimeError: no licence file",
    ),
    "quits_box": ("quits_box:Rig", "import sys\nsys.exit(4)", "SystemExit: 4"),
    "lacks_box": ("lacks_box:Rig", "", "AttributeError"),
    "number_box": ("number_box:Rig", "Rig = 7", "not a rig"),
    "syntax_box": ("syntax_box:Rig", "def (", "SyntaxError"),
}


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """A folder whose plugins this process sees, and the command: argv -> (exit code, stdout, last line of
    stderr)."""
    monkeypatch.syspath_prepend(tmp_path)

    def command(*argv):
        code = main(list(argv))
        out, err = capsys.readouterr()
        return code, out, (err.strip().splitlines() or [""])[-1]

    yield tmp_path, command
    for file in tmp_path.glob("*.py"):
        sys.modules.pop(file.stem, None)


def test_broken_plugins_are_shown_and_stop_nobody_else(here):
    folder, command = here
    for name, (value, code, _) in BROKEN.items():
        add_plugin(folder, name, name.removesuffix("_box"), value, code)
    add_plugin(folder, "thief_box", "sim", "thief_box:Rig", "print('loaded')")
    add_plugin(folder, "talker_box", "talker", "talker_box:Rig",
               "print('hello')\nfrom facetwin.hardware.sim import SimRig as Rig")  # fmt: skip
    code, out, _ = command("rig", "list", "--json")
    assert code == 0
    kinds = {kind["name"]: kind for kind in json.loads(out)["kinds"]}  # no 'hello' in it
    for name, (_, _, words) in BROKEN.items():
        kind = kinds[name.removesuffix("_box") + ":"]
        assert words in kind["error"]
        assert kind["package"] == name
    assert kinds["talker:"]["error"] is None
    assert kinds["sim:"]["from"] == "facetwin.hardware.sim:SimRig"  # nobody takes a name of ours
    assert "thief_box:Rig is ignored" in kinds["sim:"]["note"]
    code, _, error = command("rig", "check", "raises:")
    assert code == 1
    assert "no licence file" in error
    assert "next:" in error
    code, out, _ = command("rig", "list")
    assert code == 0
    lines = [line for line in out.splitlines() if line.split(":")[0] + "_box" in BROKEN]
    assert len(lines) == len(BROKEN)
    assert sum("cannot be imported" in line for line in lines) == 4


def test_a_driver_that_fails_while_it_is_made_is_named(here):
    folder, command = here
    make = "def make(x=''):\n    {}"
    add_plugin(folder, "one_box", "one", "one_box:make", make.format("return 1 / 0"))
    add_plugin(folder, "two_box", "two", "two_box:make", make.format("return 'a rig'"))
    add_plugin(folder, "three_box", "three", "three_box:Rig", "from facetwin.hardware.rig import Rig")
    for name, code, words in (("one", 1, "ZeroDivisionError"), ("two", 1, "not a rig; found str"),
                              ("three", 2, "missing a required argument")):  # fmt: skip
        got, _, error = command("rig", "check", f"{name}:")
        assert got == code
        assert words in error


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
