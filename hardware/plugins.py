"""What is named by a URL, ``scheme:rest?key=value&...``: rigs and eyes, ours and everybody's.

They are entry points of a group, listed from the metadata of what is installed and imported only when
named, so that a broken one stops nobody else.
"""

from __future__ import annotations

import contextlib
import difflib
import inspect
import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any
from urllib.parse import parse_qsl

from facetwin.twin.errors import FaceTwinError, UsageError

RIGS, EYES = "facetwin.hardware", "facetwin.eyes"


def parse_url(name: str) -> tuple[str | None, str, dict[str, Any]]:
    """Take a name apart: scheme (None where there is no colon), rest, options.

    >>> parse_url("webcam:0?width=640&mirror=true")
    ('webcam', '0', {'width': 640, 'mirror': True})
    """
    head, _, query = str(name).partition("?")
    scheme, colon, rest = head.partition(":")
    options: dict[str, Any] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key in options:
            raise UsageError("option given twice", where=name, found=key)
        options[key] = _value(value)
    if query and not options:
        raise UsageError("not options", where=name, found=query, expected="key=value&key=value")
    return (scheme, rest, options) if colon else (None, head, options)


def installed(group: str) -> dict[str, EntryPoint]:
    """Schemes of a group and where they come from; imports nothing. What two packages offer is ours, or
    else the first package's in the alphabet."""
    return {name: entries[0] for name, entries in _offered(group).items()}


def clashes(group: str) -> dict[str, str]:
    """Schemes that several packages offer, with what is done about it."""
    return {
        name: f"{entries[1].value} is ignored: it has the same name"
        for name, entries in _offered(group).items()
        if len(entries) > 1
    }


def broken(group: str, kind: str) -> dict[str, str]:
    """Installed schemes that cannot be imported, with their errors; imports all of them."""
    out, known = {}, installed(group)
    for scheme in known:
        try:
            load(scheme, known, kind)
        except FaceTwinError as error:
            out[scheme] = str(error)
    return out


def _offered(group: str) -> dict[str, list[EntryPoint]]:
    # an editable install may be seen twice: by value they are one
    entries = {(e.name, e.value): e for e in entry_points(group=group)}
    order = sorted(entries, key=lambda k: (k[0], not k[1].startswith("facetwin."), k[1]))
    out: dict[str, list[EntryPoint]] = {}
    for name, value in order:
        out.setdefault(name, []).append(entries[name, value])
    return out


def load(scheme: str, known: Mapping[str, EntryPoint], kind: str) -> Any:
    """Import what stands behind a scheme; `kind` is what to call it, "rig" or "eye".

    Raises `UsageError` for an unknown scheme, `FaceTwinError` for one that cannot be imported.
    """
    if scheme not in known:
        close = difflib.get_close_matches(scheme, known, 1)
        raise UsageError(
            f"no such kind of {kind}", found=scheme + ":",
            expected="one of " + ", ".join(s + ":" for s in known),
            hint=f"did you mean {close[0]}:?" if close else "install its plugin",
        )  # fmt: skip
    where = f"{scheme}: ({known[scheme].value})"
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for results
            found = known[scheme].load()
    except (Exception, SystemExit) as error:
        raise FaceTwinError("this driver cannot be imported", where=where,
                            found=f"{type(error).__name__}: {error}",
                            hint="reinstall its package; other rigs still work") from error  # fmt: skip
    if not callable(found):
        raise FaceTwinError(f"this driver is not a {kind}", where=where, found=found)
    return found


def construct(name: str, driver: Any, rest: str, options: Mapping[str, Any]) -> Any:
    """Call a driver with what its name says; raises `UsageError` for options that it does not take."""
    arguments = (rest,) if rest else ()
    try:
        inspect.signature(driver).bind(*arguments, **options)
    except TypeError as error:
        takes = [p.name for p in inspect.signature(driver).parameters.values()]
        close = [c for key in options if key not in takes for c in difflib.get_close_matches(key, takes, 1)]
        raise UsageError("wrong options", where=name, found=str(error), expected="of " + ", ".join(takes),
                         hint=f"did you mean {close[0]}?" if close else None) from None  # fmt: skip
    try:
        return driver(*arguments, **options)
    except (FaceTwinError, OSError):
        raise
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
        raise FaceTwinError(
            "this driver failed", where=name, found=found, hint="tell its makers; other rigs still work"
        ) from error


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
