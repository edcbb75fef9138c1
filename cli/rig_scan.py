"""``facetwin rig scan``: serial ports, what hangs on them, and what to do next."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tyro

from facetwin.hardware.ports import Port, explain, find_port, holders_of, list_ports
from facetwin.twin.errors import FaceTwinError, UsageError

#: kind of board -> module with `scan(port, bauds)`; in the order in which they may be asked
KINDS = {
    "maestro": "facetwin.hardware.maestro_scan",
    "dynamixel": "facetwin.hardware.dynamixel",
    "feetech": "facetwin.hardware.feetech",
}


@dataclass
class RigScan:
    """List the serial ports, what hangs on them by their USB ids, and what to do next.

    With --probe the boards are asked who they are, and for no motion. But a Maestro on a UART that hears
    bytes at another rate than its own, or meant for other boards, notes an error, upon which its own
    settings may move servos: name its rate with --baud, and --kind maestro.
    """

    port: tyro.conf.Positional[str] = ""
    """Only this port."""
    probe: bool = False
    """Ask the boards."""
    kind: str = ""
    """Ask only boards of this kind: maestro (PCA9685 too), dynamixel, feetech."""
    baud: tuple[int, ...] = ()
    """Rates to ask at; default: those that the boards leave the factory with, and other usual ones."""
    json: bool = False
    """Print one JSON object."""


def run(options: RigScan) -> int:
    """Print the ports and who answers."""
    if options.kind and options.kind not in KINDS:
        raise UsageError("no such kind of board", where="--kind", found=options.kind,
                         expected="one of " + ", ".join(KINDS))  # fmt: skip
    if any(not 1200 <= baud <= 10_000_000 for baud in options.baud):
        raise UsageError("bad rate", where="--baud", found=options.baud, expected="1200 to 10000000")
    found = [_look(port, options) for port in _ports(options.port)]
    if options.json:
        print(json.dumps({"ports": found}))
        return 0
    if not found:
        print("no serial ports; next: plug the board in with a cable that carries data, and check its power; "
              "in a container or virtual machine, hand the device in")  # fmt: skip
    for entry in found:
        print("\n".join(_said(entry)))
    if found and not options.probe:
        print("next: facetwin rig scan --probe asks the boards who they are, and for no motion")
    return 0


def _ports(name: str) -> list[Port]:
    if not name:
        return list_ports()
    port = find_port(name)
    if port is not None:
        return [port]
    if not os.path.exists(name):
        raise explain(FileNotFoundError(2, "no such file"), name, 0)
    return [Port(name, "", None, None, "", "", tuple(KINDS), "")]  # a pty, say


def _look(port: Port, options: RigScan) -> dict[str, Any]:
    entry = port.to_dict()
    entry["problem"], entry["answers"] = _problem(port), []
    entry["held_by"] = [{"pid": pid, "name": name} for pid, name in holders_of(port.device)]
    if options.probe and not entry["problem"]:
        entry["answers"], entry["problem"] = _probe(port, options)
    return entry


def _problem(port: Port) -> str:
    """Why it may not be opened, without opening it."""
    if os.sep == "/" and not os.access(port.device, os.R_OK | os.W_OK):
        return str(explain(PermissionError(13, "denied"), port.device, 0))
    return ""


def _probe(port: Port, options: RigScan) -> tuple[list[dict[str, Any]], str]:
    out: list[dict[str, Any]] = []
    for kind in [options.kind] if options.kind else _candidates(port):
        try:
            ask: Callable[..., list[dict[str, Any]]] = importlib.import_module(KINDS[kind]).scan
            answers = ask(port.device, options.baud) if options.baud else ask(port.device)
        except FaceTwinError as error:
            return out, str(error)
        except (ImportError, OSError) as error:
            return out, f"{port.device}: {kind} could not be asked: {' '.join(str(error).split())}"
        out += answers
        if any(answer.get("kind") for answer in answers):
            break  # the bytes of other makers would be errors to who is there
    return out, ""


def _candidates(port: Port) -> list[str]:
    """Whom to ask on a port, by its USB ids."""
    if port.vid is None and port.rigs and port.rigs != tuple(KINDS):  # a UART of this machine
        return ["maestro"]
    if port.vid == 0x1FFB:
        return ["maestro"] if port.rigs else []
    likely = ["maestro" if kind == "pca9685" else kind for kind in port.rigs]
    return [kind for kind in KINDS if not likely or kind in likely]


def _said(entry: dict[str, Any]) -> list[str]:
    ids = f"{entry['vid']:04x}:{entry['pid']:04x}" if entry["vid"] is not None else "-"
    lines = [f"{entry['device']:<16} {ids:<10} {entry['what'] or entry['description'] or 'a serial port'}"]
    if entry["link"]:
        lines.append(f"    a name that stays: {entry['link']}")
    if entry["rigs"] and not entry["answers"]:
        lines.append("    may be " + " or ".join(f"{kind}:{entry['device']}" for kind in entry["rigs"]))
    if entry["hint"] and not entry["answers"]:
        lines.append(f"    next: {entry['hint']}")
    if entry["held_by"] and not entry["answers"]:
        lines.append("    in use by " + ", ".join(f"{h['name']} (pid {h['pid']})" for h in entry["held_by"]))
    if entry["problem"]:
        lines.append(f"    {entry['problem']}")
    lines += [f"    {line}" for line in _answers(entry["device"], entry["answers"])]
    return lines


def _answers(device: str, answers: list[dict[str, Any]]) -> list[str]:
    lines = []
    for answer in answers:
        if not answer.get("kind"):
            lines.append(str(answer.get("note", "")))
            continue
        facts = [f"{key} {answer[key]}" for key in ("firmware", "baud") if answer.get(key) not in (None, "")]
        facts += ["CRC on"] if answer.get("crc") else []
        facts += [", ".join(answer["errors"])] if answer.get("errors") else []
        facts += [str(answer["note"])] if answer.get("note") else []
        who = str(answer.get("model") or answer["kind"])
        number = "" if answer.get("id") is None else f" {answer['id']}"
        lines.append(f"answers: {who}{number} ({'; '.join(facts)})")
    if names := _names(device, answers):
        lines.append("next: facetwin rig check --may-move " + " or ".join(f'"{name}"' for name in names))
    return lines


def _names(device: str, answers: list[dict[str, Any]]) -> list[str]:
    """What to call the rigs that answered."""
    out: dict[str, None] = {}
    for answer in answers:
        if not answer.get("kind"):
            continue
        more = [f"baud={answer['baud']}"] if answer.get("baud") not in (None, 115200) else []
        more += ["crc=true"] if answer.get("crc") else []
        out[f"{answer['kind']}:{device}" + ("?" + "&".join(more) if more else "")] = None
    return list(out)
