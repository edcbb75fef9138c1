"""Rigs by name: ``sim:``, ``sim:emo23``, ``maestro:/dev/ttyACM0?baud=9600``, or a rig table's path.

Rigs are entry points of the group ``facetwin.hardware``: they are listed from the metadata of what is
installed, and imported only when named, so that a broken one stops nobody else.
"""

from __future__ import annotations

import difflib
import inspect
from importlib.metadata import EntryPoint, entry_points
from typing import Any
from urllib.parse import parse_qsl

from facetwin.hardware.rig import Rig
from facetwin.hardware.safety import SafetyLayer
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.spec import rig_names

GROUP = "facetwin.hardware"


def schemes() -> dict[str, EntryPoint]:
    """Names that may stand before the colon, with where they come from; imports nothing."""
    return {e.name: e for e in sorted(entry_points(group=GROUP), key=lambda e: e.name)}


def parse_name(name: str) -> tuple[str, str, dict[str, Any]]:
    """Take the name of a rig apart: scheme, rest, options.

    >>> parse_name("maestro:/dev/ttyACM0?baud=9600&crc=true")
    ('maestro', '/dev/ttyACM0', {'baud': 9600, 'crc': True})
    >>> parse_name("mine/face.toml")
    ('sim', 'mine/face.toml', {})
    """
    head, _, query = str(name).partition("?")
    scheme, colon, rest = head.partition(":")
    if not colon:
        if not head.endswith(".toml"):
            hint = f"did you mean sim:{head}?" if head in rig_names() else "sim: is the simulated face"
            raise UsageError(
                "not the name of a rig",
                found=name,
                expected="scheme:rest or a path of a .toml file",
                hint=hint,
            )
        scheme, rest = "sim", head
    options = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key in options:
            raise UsageError("option given twice", where=name, found=key)
        options[key] = _value(value)
    if query and not options:
        raise UsageError("not options", where=name, found=query, expected="key=value&key=value")
    return scheme, rest, options


def load_driver(scheme: str) -> type[Rig]:
    """Import the rig class behind a scheme.

    Raises `UsageError` for an unknown scheme, `FaceTwinError` for one that cannot be imported.
    """
    known = schemes()
    if scheme not in known:
        close = difflib.get_close_matches(scheme, known, 1)
        raise UsageError(
            "no such kind of rig",
            found=scheme + ":",
            expected="one of " + ", ".join(s + ":" for s in known),
            hint=f"did you mean {close[0]}:?" if close else "install its plugin",
        )
    try:
        driver = known[scheme].load()
    except Exception as error:
        raise FaceTwinError("this driver cannot be imported", where=f"{scheme}: ({known[scheme].value})",
                            found=f"{type(error).__name__}: {error}",
                            hint="reinstall its package; other rigs still work") from error  # fmt: skip
    if not callable(driver):
        raise FaceTwinError(
            "this driver is not a rig", where=f"{scheme}: ({known[scheme].value})", found=driver
        )
    return driver


def broken_drivers() -> dict[str, str]:
    """Installed schemes that cannot be imported, with their errors; imports all of them."""
    out = {}
    for scheme in schemes():
        try:
            load_driver(scheme)
        except FaceTwinError as error:
            out[scheme] = str(error)
    return out


def make_rig(name: str, **options: Any) -> Rig:
    """Construct the bare rig of a name, closed and without safety layer, e.g. for `check_rig`."""
    scheme, rest, given = parse_name(name)
    driver = load_driver(scheme)
    twice = sorted(set(given) & set(options))
    if twice:
        raise UsageError("option given in the name and beside it", where=name, found=", ".join(twice))
    given.update(options)
    arguments = (rest,) if rest else ()
    try:
        inspect.signature(driver).bind(*arguments, **given)
    except TypeError as error:
        takes = [p.name for p in inspect.signature(driver).parameters.values()]
        close = [c for key in given if key not in takes for c in difflib.get_close_matches(key, takes, 1)]
        raise UsageError("wrong options", where=name, found=str(error), expected="of " + ", ".join(takes),
                         hint=f"did you mean {close[0]}?" if close else None) from None  # fmt: skip
    return driver(*arguments, **given)


def open_rig(name: str = "sim:", *, safety: dict[str, Any] | None = None, **options: Any) -> SafetyLayer:
    """Open a rig behind its safety layer; it can be read, and moves only after `activate`.

    Parameters
    ----------
    name : str
        ``scheme:rest?key=value&...``, or the path of a rig table, which is simulated.
    safety : dict, optional
        Settings of the `SafetyLayer`.
    options
        Further options of the driver, e.g. ``solver="linear"``, ``seed=1``, ``size=128`` for ``sim:``.

    Raises
    ------
    UsageError
        Unknown scheme, rig or option, with the nearest right one.
    FaceTwinError
        The driver cannot be imported or the rig cannot be opened.
    """
    layer = SafetyLayer(make_rig(name, **options), **(safety or {}))
    layer.open()
    return layer


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
