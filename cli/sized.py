"""Opening a rig with pictures of a size, where that is ours to choose."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from facetwin.twin.errors import UsageError

if TYPE_CHECKING:
    from facetwin.hardware.safety import SafetyLayer


def open_sized(name: str, size: int, *, may_move: bool = True) -> SafetyLayer:
    """Open a rig behind its safety layer; `size` (px) is for simulated ones whose name does not say it.

    Raises `UsageError` for a rig that something can happen to, unless it `may_move`.
    """
    from facetwin.hardware.names import load_driver, make_rig, parse_name
    from facetwin.hardware.safety import SafetyLayer

    scheme, _, given = parse_name(name)
    takes = inspect.signature(load_driver(scheme)).parameters
    sized = {"size": size} if "size" in takes and "size" not in given else {}
    rig = make_rig(name, **sized)
    if not (rig.capabilities.harmless or may_move):
        raise UsageError(
            "this moves the rig", where=name, hint="clear the space around it, then --may-move"
        )  # fmt: skip
    layer = SafetyLayer(rig)
    layer.open()
    return layer
