"""The `facetwin` command: ``facetwin VERB [options]``.

A verb is a dataclass of options and a function ``run(options) -> int`` in a module of its own, which is
imported only when the verb is named. Results go to stdout, progress and errors to stderr. Exit codes: 0,
1 (it failed), 2 (it was asked wrongly), 130 (interrupted). To add a verb, add a line to `VERBS`.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.metadata
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from facetwin.twin.errors import FaceTwinError, UsageError


class Verb(NamedTuple):
    """Where a verb lives and what it does in one line."""

    target: str  #: "module:Dataclass" in facetwin.cli; the module's `run` takes the dataclass
    summary: str


#: a group (train, rig, …) is a table of its own
VERBS: dict[str, Verb | dict[str, Verb]] = {
    "speak": Verb("speak:Speak", "speech or text → commands → rig → video and report"),
    "reference": Verb("reference:MakeReference", "recording or video → film of the ideal robot saying it"),
    "track": Verb("track:Track", "talking-head video or a folder of it → landmark dataset"),
    "synth": Verb("synth:Synth", "synthetic talkers in many languages → landmark dataset"),
    "align": Verb("align:Align", "recording and its text → times of words and phonemes"),
    "babble": Verb("babble:Babble", "move at random before the mirror → recording"),
    "train": {
        "self": Verb("train_self:TrainSelf", "self-model: command → landmarks, from babble"),
        "inverse": Verb("train_inverse:TrainInverse", "inverse model: landmarks → command, from babble"),
        "speech": Verb("train_speech:TrainSpeech", "audio → landmarks, from tracked video"),
        "apc": Verb("train_apc:TrainAPC", "speech features by predicting what comes next, from any speech"),
        "family": Verb("train_family:TrainFamily", "all speech models of the seeds' family in one table"),
        "sync": Verb("train_sync:TrainSync", "hears whether sound and lips fit, for track; from clips"),
        "skin": Verb("train_skin:TrainSkin", "fast skin: command → vertices, from exact solves"),
        "vae": Verb("train_vae:TrainVae", "pictures of lips → 16 numbers and back, from babble"),
        "transformer": Verb("train_transformer:TrainTransformer", "pictures or sound → command, from babble"),
    },
    "score": {
        "speech": Verb("score_speech:ScoreSpeech", "audio → landmarks against tracked people"),
        "talkers": Verb("score_talkers:ScoreTalkers", "audio → landmarks, talker by talker, by language"),
        "voice": Verb("score_voice:ScoreVoice", "audio → landmarks: rest in noise, any level, step time"),
        "loop": Verb("score_loop:ScoreLoop", "the whole loop, audio → rig → mirror, against tracked people"),
    },
    "bench": {
        "lipsync": Verb("bench_lipsync:BenchLipsync", "ways of lip sync, executed and looked at again"),
    },
    "rig": {
        "list": Verb("rig:RigList", "rigs that can be opened, and why the others cannot"),
        "scan": Verb("rig_scan:RigScan", "serial ports, what hangs on them, and what to do next"),
        "check": Verb("rig:RigCheck", "put a rig through the rules that every rig obeys"),
        "excite": Verb("rig_excite:RigExcite", "move every motor and record it, for rig calibrate"),
        "calibrate": Verb("rig_calibrate:RigCalibrate", "fit a rig table to a recording of the rig"),
        "compare": Verb("rig_compare:RigCompare", "play the same on a rig and its twin: how far apart"),
    },
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's own) and return the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
    # pools of the libraries wait for each other by spinning: a third of `speak`'s time on two cores
    for pool in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(pool, "1")
    as_json = "--json" in args
    with contextlib.suppress(ValueError):  # a signal handler belongs to the main thread
        # a terminated command closes its rig and removes what is half-written, like an interrupted one
        signal.signal(signal.SIGTERM, _terminate)
    try:
        code = _dispatch(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _fail("interrupted", 130, as_json)
    except FaceTwinError as error:
        if os.environ.get("FACETWIN_DEBUG"):
            raise
        return _fail(str(error), error.exit_code, as_json)
    except BrokenPipeError:  # the reader of our output has gone, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError:
        return _fail("out of memory; next: a smaller --size, or fewer workers", 1, as_json)
    except Exception as error:
        if os.environ.get("FACETWIN_DEBUG"):
            raise
        text = " ".join(str(error).split()) or "no message"
        if isinstance(error, OSError):
            return _fail(text, 1, as_json)
        return _fail(
            f"unexpected {type(error).__name__}: {text}; next: set FACETWIN_DEBUG=1 for the traceback",
            1,
            as_json,
        )


def _dispatch(args: list[str]) -> int:
    table: dict[str, Any] = VERBS
    prog = ["facetwin"]
    while True:
        word = args.pop(0) if args else None
        if word in (None, "-h", "--help"):
            print(_help(prog, table))
            return 0 if word else 2
        if word in ("--version", "-V") and len(prog) == 1:
            print(f"facetwin {importlib.metadata.version('facetwin')}")
            return 0
        if word not in table:
            raise UsageError(
                "no such option" if str(word).startswith("-") else "no such verb",
                where=" ".join(prog),
                found=word,
                hint=_did_you_mean(str(word), table, prog),
            )
        prog.append(str(word))
        entry = table[str(word)]
        if isinstance(entry, Verb):
            options, run = _parse(entry, args, " ".join(prog))
            return run(options)
        table = entry


def _did_you_mean(word: str, table: dict[str, Any], prog: list[str]) -> str:
    close = difflib.get_close_matches(word, table, n=1, cutoff=0.5)
    if close:
        return f"did you mean {' '.join([*prog, close[0]])}?"
    return f"one of {', '.join(table)}"


def _help(prog: list[str], table: dict[str, Any]) -> str:
    lines = [f"usage: {' '.join(prog)} VERB [options]", ""]
    if len(prog) == 1:
        lines += ["A digital twin of a talking robot face.", ""]
    rows = []
    for name, entry in table.items():
        if isinstance(entry, Verb):
            rows.append((name, entry.summary))
        else:
            rows += [(f"{name} {sub}", verb.summary) for sub, verb in entry.items()]
    width = max(len(name) for name, _ in rows)
    lines += [f"  {name:{width}}  {summary}" for name, summary in rows]
    lines += ["", f"{' '.join(prog)} VERB --help says what a verb can do."]
    return "\n".join(lines)


def _parse(verb: Verb, args: list[str], prog: str) -> tuple[Any, Callable[[Any], int]]:
    name, _, attribute = verb.target.partition(":")
    try:
        module = importlib.import_module(f"facetwin.cli.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"facetwin.cli.{name}":
            raise
        raise FaceTwinError("this verb is not in this version", where=prog) from None
    import tyro

    options = getattr(module, attribute)
    config = (tyro.conf.FlagCreatePairsOff,)
    if {"-h", "--help"} & set(args):
        return tyro.cli(options, args=args, prog=prog, config=config), module.run
    # tyro draws a box around its complaint, as wide as the terminal: catch it, keep the sentence
    complaint = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "1000"
    try:
        with contextlib.redirect_stderr(complaint), contextlib.redirect_stdout(complaint):
            return tyro.cli(options, args=args, prog=prog, config=config), module.run
    except SystemExit:
        complaint.seek(0)
        raise UsageError(_one_line(complaint.read()), where=prog, hint=f"{prog} --help") from None
    finally:
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns


def _one_line(box: str) -> str:
    """The sentences of tyro's box: its first part, and the option it suggests."""
    parts: list[list[str]] = [[]]
    for line in box.splitlines():
        text = line.strip("│ ").strip()
        if set(text) <= set("─"):
            parts.append([])
        elif not text.startswith(("╭", "╰")):
            parts[-1].append(text)
    sentence = " ".join(parts[0])
    for part in parts[1:]:
        if part and part[0].startswith("Perhaps you meant") and len(part) > 1:
            sentence += f"; did you mean {part[1].split()[0]}?"
    return sentence.rstrip(".") or "the options could not be read"


def _fail(text: str, code: int, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"error": text, "exit_code": code}, ensure_ascii=False), flush=True)
    print(f"facetwin: {text}", file=sys.stderr, flush=True)
    return code


def _terminate(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
