"""Motors are switched off however a program ends."""

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from fakes import Script, ScriptedRig

from facetwin.hardware.rig import RigFault
from facetwin.twin.errors import FaceTwinError

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


def _all_signals() -> None:
    # a test run in the background may have been told to ignore some, and a child inherits that
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def run(end: str, send: int | None = None, rigs: int = 1) -> tuple[int, list[str]]:
    code = PROGRAM.format(here=str(Path(__file__).parent), end=textwrap.dedent(end))
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        preexec_fn=_all_signals,
    )  # fmt: skip
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


def test_a_release_that_is_interrupted_is_finished():
    end = """
    class Slow(Loud):
        calls = 0
        def _release(self):
            Slow.calls += 1
            os.write(1, b"try\\n")
            if Slow.calls == 1:
                time.sleep(30)
            os.write(1, b"released\\n")
    rig = Slow().open()
    rig.activate()
    os.write(1, b"active\\n")
    rig.release()
    """
    code, lines = run(end, signal.SIGINT, rigs=3)  # the second is released at the end too
    assert code == -signal.SIGINT
    assert lines.count("try") >= 2
    assert lines.count("released") >= 2


def test_a_release_that_failed_is_tried_again_at_the_end():
    end = """
    class Pulled(Loud):
        back = False
        def _release(self):
            if not Pulled.back:
                raise OSError("cable pulled")
            os.write(1, b"released\\n")
    rig = Pulled().open()
    rig.activate()
    try:
        rig.release()
    except Exception as error:
        assert "cable pulled" in str(error) and "cable pulled" in rig.status.reason
        os.write(1, b"failed\\n")
    Pulled.back = True
    """
    code, lines = run(end)
    assert code == 0
    assert lines[:3] == ["active", "failed", "released"]


def test_terminated_while_it_is_being_switched_on():
    end = """
    class Late(Loud):
        def _activate(self, present):
            os.write(1, b"switching\\n")
            time.sleep(30)
    Late().open().activate()
    """
    code, lines = run(end, signal.SIGTERM, rigs=2)
    assert code == 128 + signal.SIGTERM
    assert lines[:2] == ["active", "switching"]
    assert lines.count("released") >= 2


def test_a_rig_that_another_thread_switched_on():
    end = """
    import threading
    rig = Loud().open()
    thread = threading.Thread(target=rig.activate)
    thread.start(); thread.join()
    os.write(1, b"active\\n")
    time.sleep(30)
    """
    code, lines = run(end, signal.SIGTERM, rigs=2)
    assert code == 128 + signal.SIGTERM
    assert lines.count("released") == 2


def test_a_thread_that_hangs_in_the_driver_does_not_keep_the_motors_on():
    end = """
    import threading
    import facetwin.hardware.release as module
    module._PATIENCE = 0.3
    class Hangs(Loud):
        def _write(self, command):
            time.sleep(60)
    rig = Hangs().open()
    rig.activate()
    threading.Thread(target=rig.write, args=(rig.spec.rest,), daemon=True).start()
    time.sleep(0.2)
    os.write(1, b"hanging\\n")
    """
    code, lines = run(end)
    assert code == 0
    assert lines[:2] == ["active", "hanging"]
    assert lines.count("released") == 2


def test_a_forked_child_may_not_use_its_parents_rig():
    end = """
    from facetwin.twin.errors import FaceTwinError
    rig = Loud().open()
    rig.activate()
    pid = os.fork()
    if pid == 0:
        try:
            rig.write(rig.spec.rest)
        except FaceTwinError as error:
            assert "another process" in str(error)
            os.write(1, b"refused\\n")
        rig.release()
        rig.close()
        os.write(1, b"child\\n")
        os._exit(0)
    os.waitpid(pid, 0)
    assert rig.status.state == "active"
    os.write(1, b"parent\\n")
    """
    code, lines = run(end)
    assert code == 0
    assert lines[:4] == ["active", "refused", "child", "parent"]
    assert lines.count("released") == 2


# --- within one process ---------------------------------------------------------------------------


def test_what_ended_a_block_is_not_hidden_by_a_release_that_fails():
    class Oops(Exception):
        pass

    rig = ScriptedRig()
    rig._release = lambda: (_ for _ in ()).throw(OSError("cable pulled"))

    def run_into_it():
        with rig:
            rig.activate()
            raise Oops

    with pytest.raises(Oops):
        run_into_it()
    assert rig.status.state == "closed"
    assert "cable pulled" in rig.status.reason


def test_a_motor_that_cannot_be_switched_off_is_told():
    script = Script(write_fails=10**6)
    rig = ScriptedRig(script=script)
    rig._release = rig._hold = lambda: (_ for _ in ()).throw(OSError("cable pulled"))
    rig.open()
    rig.activate()
    with pytest.raises(RigFault, match="servo 5 is silent"):
        rig.write(rig.spec.rest)
    assert rig.status.state == "open"
    assert "servo 5 is silent" in rig.status.reason
    assert "release failed: cable pulled" in rig.status.reason


def test_reads_that_fail_are_counted_apart_from_writes_that_work():
    script = Script()
    rig = ScriptedRig(script=script)
    rig.open()
    rig.activate()
    script.read_fails = 10**6
    with pytest.raises(RigFault):
        rig.read()
    assert rig.status.state == "held"
    rig.write(rig.spec.rest)  # a blind face goes on once, not for ever
    with pytest.raises(RigFault):
        rig.read()
    assert rig.status.state == "open"
    assert script.calls[-1] == "release"


def test_a_failed_opening_tells_its_own_reason():
    rig = ScriptedRig()
    rig._open = lambda: (_ for _ in ()).throw(OSError("no such port"))
    rig._close = lambda: (_ for _ in ()).throw(OSError("was never open"))
    with pytest.raises(OSError, match="no such port"):
        rig.open()
    assert rig.status.state == "closed"


@pytest.mark.parametrize("told", [np.zeros(3), np.full(26, np.nan)])
def test_a_driver_that_says_nonsense_about_what_it_sent_is_caught(told):
    rig = ScriptedRig()
    rig._write = lambda command: told
    rig.open()
    rig.activate()
    before = rig._commanded.copy()
    with pytest.raises(FaceTwinError, match="does not tell what it sent"):
        rig.write(rig.spec.rest)
    np.testing.assert_array_equal(rig._commanded, before)
