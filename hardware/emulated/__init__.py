"""The emulated rig: a robot as seen from the wire, in processes of its own behind a pty."""

from facetwin.hardware.emulated.rig import emulated_rig

__all__ = ["emulated_rig"]
