"""``emulated:maestro`` and its like: the unchanged driver at the wire of a robot that is a program.

The driver sees a port and bytes. The robot behind it (`facetwin.hardware.emulated.control`) has servos, skin
and a camera of its own, drawn from the table's ranges by a seed, and faults to be switched on.
"""

from __future__ import annotations

import functools
import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

from facetwin.hardware.emulated.control import LINGER, Emulator
from facetwin.hardware.emulated.eye import EmulatorEye
from facetwin.hardware.emulated.kinds import KINDS
from facetwin.hardware.rig import Capabilities
from facetwin.hardware.serial_rig import SerialRig
from facetwin.twin.errors import UsageError
from facetwin.twin.spec import RigSpec, load_rig, rig_names
from facetwin.twin.spec_table import suggest


class Emulated(SerialRig):
    """What an emulated rig adds to its driver, which stays as it is.

    Attributes
    ----------
    emulator : Emulator
        The robot behind the wire: faults, truth, health.
    """

    emulator: Emulator

    @property
    def capabilities(self) -> Capabilities:
        """The driver's own; nothing can break."""
        return replace(super().capabilities, emulated=True)

    def _open(self) -> None:
        self.emulator.start()
        super()._open()

    def _close(self) -> None:
        super()._close()
        self.emulator.rest(LINGER)


def emulated_rig(
    kind: str = "maestro",
    *,
    body: int = 1,
    baud: int | None = None,
    board_baud: int | None = None,
    camera: bool = True,
    size: tuple[int, int] | int | None = None,
    solver: str = "exact",
    renderer: str = "fast",
    table: RigSpec | str | Path = "face26",
    like: RigSpec | str | Path | None = None,
    boards: dict[str, Any] | None = None,
    **driver: Any,
) -> Emulated:
    """A rig whose robot is a program at the other end of a pty; constructing starts nothing.

    Parameters
    ----------
    kind : "maestro", "pca9685", "dynamixel" or "feetech"
    body : int, at least 0
        Seed of the hidden body, drawn from the ``[ranges]`` of `like`; 0: exactly like the table.
    baud : int, optional
        Of driver and boards; the driver's own by default.
    board_baud : int, optional
        Of the boards alone, to see what the wrong speed does.
    camera : bool
        Without one there is no skin: it starts in a second, for tests of the wire.
    size : (width, height) or int, px, optional
        Of the pictures; the table's by default.
    solver, renderer : as `facetwin.twin.twin.FaceTwin` has them
        Of the robot's body.
    table : RigSpec, name or path of a rig table
        What the driver goes by.
    like : RigSpec, name or path of a rig table, optional
        What the hidden body is drawn from. By default the table that ships under the same name, so that the
        same seed is the same robot whichever calibration the driver goes by; else `table`.
    boards : dict, optional
        Settings of the boards, see docs/emulator.md; e.g. ``{"crc": False}``.
    driver
        Further options of the driver.

    Raises
    ------
    UsageError
        Unknown kind or option.

    >>> rig = emulated_rig("maestro", camera=False)
    >>> rig.status.state, rig.capabilities.harmless, rig.emulator.running
    ('closed', True, False)
    """
    if kind not in KINDS:
        raise UsageError("no such kind of emulated rig", found=kind, expected="one of " + ", ".join(KINDS),
                         hint=suggest(str(kind), KINDS))  # fmt: skip
    if isinstance(body, bool) or not isinstance(body, int) or body < 0:
        raise UsageError("bad seed", where="emulated: body", found=body, expected="a whole number from 0")
    if body and solver == "fast":
        raise UsageError("the fast skin has learned one body, the table's", where="emulated: solver",
                         found=f"fast, body={body}", expected="body=0, or another solver",
                         hint="exact is the one that can be any body")  # fmt: skip
    spec = table if isinstance(table, RigSpec) else load_rig(table)
    shape = None
    if camera:
        eye = spec.cameras.get("mirror")
        if eye is None:
            raise UsageError("the rig file has no camera", where=spec.source, expected="[camera.mirror]",
                             hint="camera=false")  # fmt: skip
        wide, high = (size, size) if isinstance(size, int) else size or (eye.width, eye.height)
        shape = (int(high), int(wide), 3)
    cls = driver_class(kind)
    given = {**KINDS[kind].options, **driver}
    if baud is not None:
        given["baud"] = baud
    takes = inspect.signature(cls.__init__)
    try:
        takes.bind(None, "", table=spec, **given)
    except TypeError as error:
        raise UsageError("wrong options", where=f"emulated:{kind}", found=str(error),
                         expected="those of emulated_rig and of the driver: "
                         + ", ".join(list(takes.parameters)[2:])) from None  # fmt: skip
    rig = cls("emulated", table=spec, **given)
    setup = KINDS[kind].setup(rig, boards or {})
    setup.update(baud=int(board_baud or rig.baud), solver=solver, renderer=renderer)
    rig.emulator = Emulator(setup, spec, body, shape, _origin(spec, like))
    rig.port = rig.wire.port = rig.emulator.path
    if shape is not None:
        rig.eye = EmulatorEye(rig.emulator.eye_path, width=shape[1], height=shape[0])
    return rig


def _origin(spec: RigSpec, like: RigSpec | str | Path | None) -> RigSpec:
    """The table that a hidden body behind `spec` is drawn from."""
    if like is None:
        shipped = load_rig(spec.name) if spec.name in rig_names() else spec
        return shipped if shipped.names == spec.names else spec
    own = like if isinstance(like, RigSpec) else load_rig(like)
    if own.names != spec.names:
        raise UsageError("a table of other motors", where="emulated: like", found=own.name,
                         expected=f"the {spec.size} motors of {spec.name}")  # fmt: skip
    return own


@functools.cache
def driver_class(kind: str) -> type[Emulated]:
    """The driver of a kind, with a robot behind it."""
    driver = KINDS[kind].driver()
    return type(
        f"Emulated{driver.__name__}", (Emulated, driver), {"__doc__": driver.__doc__, "__module__": __name__}
    )
