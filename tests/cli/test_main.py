"""The command: what it prints, where, and with which exit code."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import types

import pytest

from facetwin.cli import main as cli
from facetwin.twin.errors import FaceTwinError, UsageError


@dataclasses.dataclass(frozen=True)
class Options:
    """A verb for the tests."""

    size: int = 3
    """A number."""
    json: bool = False
    """Results as JSON."""


@pytest.fixture
def verb(monkeypatch):
    """Put a verb `probe` in the table; its behaviour is set as `module.run`."""
    module = types.ModuleType("facetwin.cli.probe")
    module.Options = Options
    module.run = lambda options: print(f"size {options.size}") or 0
    monkeypatch.setitem(sys.modules, "facetwin.cli.probe", module)
    monkeypatch.setitem(cli.VERBS, "probe", cli.Verb("probe:Options", "for the tests"))
    monkeypatch.delenv("FACETWIN_DEBUG", raising=False)
    return module


def test_runs(verb, capsys):
    assert cli.main(["probe", "--size", "4"]) == 0
    assert capsys.readouterr() == ("size 4\n", "")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["probe", "--sise", "4"], "did you mean --size?"),
        (["probe", "--size", "four"], "four"),
        (["probe", "extra"], "extra"),
        (["prob"], "did you mean facetwin probe?"),
        (["trane", "self"], "did you mean facetwin train?"),
        (["train", "speach"], "did you mean facetwin train speech?"),
        (["zzzz"], "one of speak"),
        (["--nonsense"], "no such option"),
    ],
)
def test_asked_wrongly(verb, capsys, args, says):
    assert cli.main(args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert says in err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FaceTwinError("it broke", where="there"), 1),
        (UsageError("no such file"), 2),
        (ZeroDivisionError("two\nlines"), 1),
        (FileNotFoundError(2, "No such file", "x.wav"), 1),
        (MemoryError(), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_failures_are_one_line(verb, capsys, error, code):
    def run(options):
        raise error

    verb.run = run
    assert cli.main(["probe"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert cli.main(["probe", "--json"]) == code
    assert json.loads(capsys.readouterr().out)["exit_code"] == code


def test_help_lists_every_verb(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in cli.VERBS)
    assert cli.main([]) == 2


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from facetwin.cli.main import main; main(['--help']); "
        "sys.exit(bool({'torch', 'mediapipe', 'numpy', 'tyro'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("facetwin ")
