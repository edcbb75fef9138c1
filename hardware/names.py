"""Rigs by name: ``sim:``, ``maestro:/dev/ttyACM0?baud=9600``, the path of a rig table or of a face file.

Rigs are entry points of the group ``facetwin.hardware``: they are listed from the metadata of what is
installed, and imported only when named, so that a broken one stops nobody else.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

from facetwin.hardware.face_file import is_face_file
from facetwin.hardware.plugins import RIGS, broken, construct, installed, load, parse_url
from facetwin.hardware.rig import Rig
from facetwin.hardware.safety import SafetyLayer
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.spec import rig_names


def schemes() -> dict[str, EntryPoint]:
    """Names that may stand before the colon, with where they come from; imports nothing."""
    return installed(RIGS)


def parse_name(name: str) -> tuple[str, str, dict[str, Any]]:
    """Take the name of a rig apart: scheme, rest, options.

    >>> parse_name("maestro:/dev/ttyACM0?baud=9600&crc=true")
    ('maestro', '/dev/ttyACM0', {'baud': 9600, 'crc': True})
    >>> parse_name("mine/face.toml")
    ('sim', 'mine/face.toml', {})

    A TOML with ``[[bus]]`` is a face file, of the scheme ``face``.
    """
    scheme, rest, options = parse_url(name)
    if scheme is None:
        if not rest.endswith(".toml"):
            hint = f"did you mean sim:{rest}?" if rest in rig_names() else "sim: is the simulated face"
            raise UsageError(
                "not the name of a rig",
                found=name,
                expected="scheme:rest or a path of a .toml file",
                hint=hint,
            )
        scheme = "face" if is_face_file(rest) else "sim"
    return scheme, rest, options


def load_driver(scheme: str) -> type[Rig]:
    """Import the rig class behind a scheme.

    Raises `UsageError` for an unknown scheme, `FaceTwinError` for one that cannot be imported.
    """
    driver: type[Rig] = load(scheme, schemes(), "rig")
    return driver


def broken_drivers() -> dict[str, str]:
    """Installed schemes that cannot be imported, with their errors; imports all of them."""
    return broken(RIGS, "rig")


def make_rig(name: str, **options: Any) -> Rig:
    """Construct the bare rig of a name, closed and without safety layer, e.g. for `check_rig`."""
    scheme, rest, given = parse_name(name)
    driver = load_driver(scheme)
    twice = sorted(set(given) & set(options))
    if twice:
        raise UsageError("option given in the name and beside it", where=name, found=", ".join(twice))
    rig = construct(name, driver, rest, {**given, **options})
    if not isinstance(rig, Rig):
        raise FaceTwinError("this driver is not a rig", where=name, found=type(rig).__name__,
                            expected="a subclass of facetwin.hardware.rig.Rig")  # fmt: skip
    return rig


def open_rig(name: str = "sim:", *, safety: dict[str, Any] | None = None, **options: Any) -> SafetyLayer:
    """Open a rig behind its safety layer; it can be read, and moves only after `activate`.

    Parameters
    ----------
    name : str
        ``scheme:rest?key=value&...``, the path of a face file (`facetwin.hardware.face_file`), or that of a
        rig table, which is simulated.
    safety : dict, optional
        Settings of the `SafetyLayer`; they win over the face file's.
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
