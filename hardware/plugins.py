"""What is named by a URL, ``scheme:rest?key=value&...``: rigs and eyes, ours and everybody's.

They are entry points of a group, listed from the metadata of what is installed and imported only when
named, so that a broken one stops nobody else.
"""

from __future__ import annotations

import difflib
import inspect
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
    """Schemes of a group and where they come from; imports nothing."""
    return {e.name: e for e in sorted(entry_points(group=group), key=lambda e: e.name)}


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
        found = known[scheme].load()
    except Exception as error:
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
    return driver(*arguments, **options)


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
