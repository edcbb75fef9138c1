"""Beside a calibrated rig table: a self-model of that robot, which `facetwin speak` then goes by."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from facetwin.cli.progress import Progress
from facetwin.twin.errors import UsageError
from facetwin.twin.spec import RigSpec


def adapt_beside(file: Path, learned: RigSpec, poses: int, notes: list[str]) -> dict[str, Any]:
    """Write ``self_NAME.safetensors`` beside the table `file`; what it gained, {} where no weights ship.

    Parameters
    ----------
    file : path of the calibrated table
    learned : RigSpec
        The table that it was calibrated from, for which weights ship.
    poses : int
        Poses of the mouth that both twins take.
    notes : list that is added to
    """
    from facetwin.policies.adapted import adapt
    from facetwin.policies.selfmodel import SelfModel
    from facetwin.policies.weights import provenance
    from facetwin.twin.spec import load_rig

    spec = load_rig(file)
    try:
        model = SelfModel.load(learned)
    except UsageError as why:
        notes.append(f"self-model: none made: {why}")
        return {}
    with Progress("adapting the self-model", total=2 * poses) as bar:
        own, gained = adapt(model, learned, spec, poses=poses, tell=lambda _: bar.advance(1))
    path = file.with_name(f"self_{spec.name}.safetensors")
    own.save(path, {**model.sidecar, **provenance(), "rig_hash": spec.hash, "adapted": asdict(gained)})
    return {"weights": str(path), **asdict(gained)}
