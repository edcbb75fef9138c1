"""Rig tables on their way to another process, as JSON."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from facetwin.twin.spec import RigSpec
from facetwin.twin.spec_change import to_tables
from facetwin.twin.spec_read import read_rig


def table_of(spec: RigSpec) -> dict[str, Any]:
    """A rig as plain dicts, which JSON takes."""
    tree = to_tables({f.name: getattr(spec, f.name) for f in fields(spec)})
    tree["ranges"] = {}
    return {"tree": tree, "source": spec.source or spec.name}


def read_table(content: dict[str, Any]) -> RigSpec:
    """The rig of `table_of`."""
    return RigSpec(**read_rig(content["tree"], content["source"], check_ranges=False))
