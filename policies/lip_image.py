"""The lip crop that image latents are made from, by its public name (`facetwin.twin.lip_crop`)."""

from __future__ import annotations

from facetwin.twin.lip_crop import MIDDLE, SIDE, SIZE, lip_crop, lip_frame

__all__ = ["MIDDLE", "SIDE", "SIZE", "lip_crop", "lip_frame"]
