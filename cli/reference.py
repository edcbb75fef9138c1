"""``facetwin reference``: the ideal robot saying a recording, or what a person in a video says."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from facetwin.cli.progress import Progress
from facetwin.twin.errors import UsageError


@dataclass
class MakeReference:
    """Film the ideal robot: its skin moved without motors to what a file's speech, or person, does.

    Leaves reference.mp4 (with the sound), lips.mp4 (the crops) and reference.safetensors: crops, landmarks
    in u, gap in mm, wished displacement and, where weights are there, latents.
    """

    file: tyro.conf.Positional[Path]
    """A recording, or a video of one person who speaks."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Folder for the results; default: out/reference- and the file's name."""
    rig: str = "face26"
    """Rig table whose skin and camera it is."""
    lookahead: int = 80
    """Sound known ahead of a picture, ms: 0, 40 or 80."""
    vae: Path | None = None
    """Weights for latents; default: those that ship, if any."""
    size: int = 480
    """Side of the pictures, px."""
    mark: bool = True
    """Write a small "synthetic" into the video."""
    limit: float = 60.0
    """At most so much of it, s."""
    json: bool = False
    """Print one JSON object."""


def run(options: MakeReference) -> int:
    """Make the reference and say where it is."""
    from facetwin.cli.spoken import marked
    from facetwin.policies.reference_video import FPS, Wish, closures, make_reference, pictures, wish_of
    from facetwin.policies.speech import SpeechModel
    from facetwin.policies.video import VideoWriter
    from facetwin.twin.spec import load_rig

    if not 64 <= options.size <= 2048 or not options.limit > 0:
        raise UsageError("no such pictures", found=f"{options.size} px, {options.limit} s",
                         expected="64 to 2048 px, more than 0 s")  # fmt: skip
    spec = load_rig(options.rig)
    talkers = "many" if options.lookahead == 80 else "one"
    wish = wish_of(options.file, SpeechModel.load(SpeechModel.shipped(options.lookahead, talkers)))
    wish = Wish(wish.displacement[: max(1, round(options.limit * FPS))], wish.source)
    out = options.out or Path("out") / f"reference-{options.file.stem}"
    count = len(wish.displacement)
    out.mkdir(parents=True, exist_ok=True)
    with Progress("moving the skin", total=count, unit="pictures") as bar:
        reference = make_reference(wish, spec, progress=bar.advance)
    told: dict[str, Any] = {"title": f"ideal {spec.name}: {options.file.name}", "audio": options.file}
    with (
        VideoWriter(out / "reference.mp4", FPS, (options.size, options.size), **told) as film,
        Progress("drawing", total=count, unit="pictures") as bar,
    ):
        for picture in pictures(reference, spec, options.size):
            film.write(marked(picture) if options.mark else picture)
            bar.advance()
    with VideoWriter(out / "lips.mp4", FPS, (128, 128), **told) as film:
        for crop in reference.views.crops:
            film.write(crop)
    latents = _latents(options, spec, reference)
    _save(out / "reference.safetensors", reference, latents, spec)
    asked, open_mm = closures(wish, reference.views.gap_mm)
    result: dict[str, Any] = {
        "out": str(out), "source": wish.source, "pictures": count, "seconds": count / FPS,
        "missed_u": float(reference.motion.missed.mean()),
        "converged": float(reference.motion.converged.mean()),
        "to_be_shut": int(asked.sum()),
        "shut_below_half_mm": float((open_mm < 0.5).mean()) if asked.any() else None,
        "latents": latents is not None,
    }  # fmt: skip
    if options.json:
        print(json.dumps(result))
    else:
        print(f"{out}: {count} pictures, from the {wish.source}")
        print(f"lips {result['missed_u']:.4f} u from where they were to go")
        if asked.any():
            shut = 100 * result["shut_below_half_mm"]
            print(
                f"to be shut in {result['to_be_shut']} pictures, shut (below .5 mm) in {shut:.1f} % of them"
            )
    return 0


def _latents(options: MakeReference, spec: Any, reference: Any) -> Any:
    from facetwin import assets
    from facetwin.policies.vae import Vae

    if options.vae is None and not assets.path("weights", f"vae_{spec.name}.safetensors").is_file():
        return None
    return Vae.load(str(options.vae) if options.vae else spec).encode(reference.views.crops)


def _save(path: Path, reference: Any, latents: Any, spec: Any) -> None:
    from safetensors.numpy import save_file

    tensors = {
        "crops": reference.views.crops,
        "landmarks": reference.views.landmarks,
        "gap_mm": reference.views.gap_mm,
        "displacement": reference.wish.displacement,
        "missed_u": reference.motion.missed,
    }
    if latents is not None:
        tensors["latents"] = latents
    about = {"rig": spec.name, "rig_hash": spec.hash, "source": reference.wish.source, "fps": "25"}
    part = path.with_suffix(".part")
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, part, about)
    os.replace(part, path)
