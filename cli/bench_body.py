"""A rig's own body, learned before its mirror: the minute of ``transformer-acquainted``."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetwin.cli.progress import Progress
from facetwin.cli.recapture import open_eye
from facetwin.hardware.rig import Rig
from facetwin.hardware.safety import SafetyLayer
from facetwin.hardware.sim import SimRig
from facetwin.hardware.underway import under_way
from facetwin.policies.acquainted import Acquainted, AcquaintedFace, acquaint, minute
from facetwin.policies.action_transformer import ActionController
from facetwin.policies.image_self import ImageSelf
from facetwin.policies.lipsync_takes import Capture, load_take, save_take, take_key
from facetwin.policies.refined import RefinedTransformer, read, shipped
from facetwin.policies.vae import Vae
from facetwin.twin.spec import RigSpec

#: the method that needs it
ACQUAINTED = "transformer-acquainted"
#: pictures of the minute, and of a clip of spoken commands in it
PICTURES, PIECE = 1500, 64
SEED = 21


@dataclass(frozen=True)
class Body:
    """What a rig's minute before the mirror taught, and what the table said before."""

    spec: RigSpec
    image: ImageSelf
    known: Acquainted
    start: ActionController

    @property
    def timing(self) -> RigSpec:
        """The table with this body's latency and lag."""
        return self.known.timed(self.spec)

    def controller(self) -> RefinedTransformer:
        """The transformer, refined by what this body shows."""
        face = AcquaintedFace(self.spec, self.image, self.known)
        out = RefinedTransformer(self.spec, self.start, image=self.known.image, face=face)
        out.name = "transformer (latents), acquainted"
        return out


def look_in_mirror(
    rig: Rig,
    spoken: NDArray[np.float32],
    vae: Vae,
    way: str,
    store: Path,
    *,
    name: str = "rig",
    body: str = "",
    pictures: int = PICTURES,
    image: str | Path | None = None,
    start: str | Path | None = None,
) -> Body:
    """Play a minute on an activated rig and on its table's twin, look at both, and learn the difference.

    Parameters
    ----------
    rig : Rig, activated
    spoken : commands float32 [shape=(n, motors)] of speech, a part of the minute
    way : tracker or geometry
    store : folder that keeps both takes
    name, body : what its take is called, and whatever else tells this body from another one
    image, start : weights of the self-model of pictures and of the transformer; by default those that ship
    """
    spec = rig.spec
    pieces = [spoken[k : k + PIECE] for k in range(0, len(spoken) - PIECE + 1, PIECE)]
    rows = minute(spec, pictures, spoken=pieces, seed=SEED)

    def seen(who: str, one: Rig | None, which: str) -> Capture:
        path, key = store / f"minute-{who}.safetensors", take_key(
            commands=rows, table=spec.hash, way=way, body=which
        )  # fmt: skip
        take = load_take(path, key)
        if take is None:
            with (
                ExitStack() as stack,
                Progress(f"a minute before the mirror: {who}", total=1, unit="") as bar,
            ):
                if one is None:
                    one = stack.enter_context(SafetyLayer(SimRig(spec, renderer="fast")))
                    one.activate()
                take = open_eye(way, one, stack).watch(one, rows, None, SEED)
                bar.advance()
            save_take(path, take, key)
        return take

    net, _ = read(spec, Path(image) if image is not None else shipped(spec))
    twin, own = seen("twin", None, "twin"), seen(name, rig, f"{name} {body}")
    known = acquaint(spec, net, vae, own, twin, under_way=under_way(rig))
    return Body(spec, net, known, ActionController.load(spec, start))
