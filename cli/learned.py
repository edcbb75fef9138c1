"""What the sidecars of everything learned from babble have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from facetwin.policies.mirror import Mirror
from facetwin.policies.weights import provenance
from facetwin.twin.spec import RigSpec


def babble_sidecar(
    kind: str,
    spec: RigSpec,
    meta: Mapping[str, Any],
    seed: int,
    parts: tuple[Mirror, Mirror, Mirror],
    scores: Mapping[str, Any],
) -> dict[str, Any]:
    """Sidecar of weights learned from babble: training, validation and test poses are `parts`."""
    train, check, test = parts
    poses = sum(len(part) for part in parts)
    return {
        "kind": kind,
        "data": f"facetwin babble, {poses} poses, babbler {meta['babbler']}, seed {meta['seed']}",
        "licence": "Apache-2.0",
        **provenance(),
        "seed": seed,
        "rig": spec.name,
        "rig_hash": meta["rig_hash"],
        "motors": meta["motors"],
        "unit": meta["unit"],
        "rest": [float(v) for v in spec.rest],
        "split": {"train": len(train), "validation": len(check), "test": len(test)},
        "scores": scores,
    }
