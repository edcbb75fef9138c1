"""Motors are switched off however a program ends."""

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

PROGRAM = """
import os, signal, sys, time
sys.path.insert(0, {here!r})
from fakes import ScriptedRig
from facetwin.hardware.rig import Capabilities

class Loud(ScriptedRig):
    @property
    def capabilities(self):  # a real rig: nothing but the end of the program releases it
        return Capabilities(simulated=False, measures=True, camera=None)
    def _release(self):
        os.write(1, b"released\\n")
    def _close(self):
        os.write(1, b"closed\\n")

def start():
    rig = Loud().open()
    rig.activate()
    os.write(1, b"active\\n")

start()  # no reference is kept
{end}
"""


def run(end: str, send: int | None = None, rigs: int = 1) -> tuple[int, list[str]]:
    code = PROGRAM.format(here=str(Path(__file__).parent), end=textwrap.dedent(end))
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    lines = [process.stdout.readline().strip() for _ in range(rigs)]
    if send is not None:
        time.sleep(0.1)
        process.send_signal(send)
    lines += process.stdout.read().split()
    return process.wait(20), lines


@pytest.mark.parametrize(
    ("end", "send", "code"),
    [
        ("", None, 0),
        ("raise ValueError('oops')", None, 1),
        ("sys.exit(3)", None, 3),
        ("time.sleep(30)", signal.SIGINT, -signal.SIGINT),
        ("time.sleep(30)", signal.SIGTERM, 128 + signal.SIGTERM),
        ("time.sleep(30)", signal.SIGHUP, 128 + signal.SIGHUP),
        # A forked child does not switch its parent's face off.
        ("pid = os.fork()\nif pid == 0:\n    sys.exit(0)\nos.waitpid(pid, 0)", None, 0),
    ],
    ids=["end", "exception", "exit", "SIGINT", "SIGTERM", "SIGHUP", "fork"],
)
def test_release_runs(end, send, code):
    got, lines = run(end, send)
    assert lines == ["active", "released", "closed"]
    assert got == code


def test_a_handler_of_the_program_is_left_alone():
    end = """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    start()
    time.sleep(30)
    """
    # Two rigs: the first came before the handler.
    code, lines = run(end, signal.SIGTERM, rigs=2)
    assert code == 7
    assert lines.count("released") == 2
