"""The contest behind ``facetwin bench lipsync``: methods, their commands, and what the rig showed of each."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from facetwin import assets
from facetwin.cli.bench_body import ACQUAINTED, Body
from facetwin.cli.bench_reference import Ideal
from facetwin.cli.progress import Progress
from facetwin.cli.recapture import Eye
from facetwin.hardware.rig import Rig
from facetwin.policies import espeak, synthetic
from facetwin.policies.action_transformer import ActionController
from facetwin.policies.controllers import Controller, ReferenceClip, controller, rest_face
from facetwin.policies.lipsync_baselines import Amplitude, Bank, Frozen, Nearest, Random, babbled, bank_of
from facetwin.policies.lipsync_score import Shown, Wanted, late_by
from facetwin.policies.lipsync_takes import load_take, save_take, take_key
from facetwin.policies.refined import RefinedTransformer
from facetwin.policies.speech import SpeechModel
from facetwin.policies.vae import Vae
from facetwin.twin.errors import UsageError
from facetwin.twin.landmarks import indices
from facetwin.twin.lip_camera import LipCamera
from facetwin.twin.spec import RigSpec

Floats = NDArray[np.float32]

#: names of methods, in the table's order, and what they are called in it
METHODS = {
    "transformer": "transformer (latents)",
    "transformer-refined": "transformer (latents), refined",
    "transformer-acquainted": "transformer (latents), acquainted",
    "transformer-speech": "transformer (speech)",
    "inverse": "landmark inverse",
    "gradient": "gradient (ceiling)",
    "amplitude": "audio amplitude",
    "nearest-landmarks": "nearest neighbour, landmarks",
    "nearest-latents": "nearest neighbour, latents",
    "random": "random",
    "frozen": "frozen best face, latents",
    "frozen-landmarks": "frozen best face, landmarks",
    "late-1": "reference, one frame late",
    "late-15": "reference, fifteen frames late",
    "reference": "reference itself",
}
LEARNED = (
    "transformer",
    "transformer-refined",
    "transformer-acquainted",
    "transformer-speech",
    "inverse",
    "gradient",
)
#: the reference itself, so many pictures late: no rig is needed
LATE = {"late-1": 1, "late-15": 15, "reference": 0}
#: methods that look at each picture of the reference through the VAE
LOOKING = ("transformer", "transformer-refined", "transformer-acquainted", "nearest-latents")
#: what `--weights` may name
WEIGHED = ("vae", "transformer", "transformer-speech", "image-self")


@dataclass(frozen=True)
class Answer:
    """A method's commands for a clip, float32 [shape=(T, motors)], and ms a picture that they took.

    `timing`: the table whose latency and lag motors are told ahead by, where it is not the rig's own.
    """

    commands: Floats
    compute: float
    timing: RigSpec | None = None


def check_methods(names: Sequence[str]) -> None:
    """Raises `UsageError` for a method that there is not, or none at all."""
    for name in names:
        if name not in METHODS:
            raise UsageError("no such method", where="--methods", found=name, expected=", ".join(METHODS))
    if not set(names) - set(LATE):
        raise UsageError("no method that moves", where="--methods", found=", ".join(names) or "none",
                         expected=", ".join(METHODS))  # fmt: skip


def read_weights(texts: Sequence[str]) -> dict[str, Path]:
    """``NAME=FILE`` to files by name; raises `UsageError` for another name or a file that is not there."""
    out: dict[str, Path] = {}
    for text in texts:
        name, _, file = text.partition("=")
        if name not in WEIGHED or not file:
            raise UsageError("not weights of a method", where="--weights", found=text,
                             expected=", ".join(f"{one}=FILE" for one in WEIGHED))  # fmt: skip
        if not Path(file).is_file():
            raise UsageError("no such file", where="--weights", found=file, hint="check the path")
        out[name] = Path(file)
    return out


def shipped_vae(spec: RigSpec) -> Path:
    """Weights of the VAE that ship for a rig; raises `UsageError` where there are none."""
    path = assets.path("weights", f"vae_{spec.name}.safetensors")
    if not path.is_file():
        raise UsageError("no VAE for this rig", where=spec.name, expected=path.name,
                         hint="facetwin train vae, then --weights vae=FILE")  # fmt: skip
    return path


def learned(name: str, spec: RigSpec, weights: Mapping[str, Path]) -> Controller:
    """A learned method, with other weights where they are named."""
    if name == "transformer-refined" and {"transformer", "image-self"} & set(weights):
        start = ActionController.load(spec, weights.get("transformer"))
        return RefinedTransformer(spec, start, image=weights.get("image-self"))
    if name not in weights:
        return controller(name, spec)
    inputs = "speech" if name.endswith("speech") else "latents"
    return ActionController.load(spec, weights[name], inputs=inputs)


def look_bank(spec: RigSpec, vae: Vae, poses: int, seed: int, store: Path) -> Bank:
    """The babbled set of a rig's twin; poses are kept in `store`, and so is what they look like to a VAE."""
    path = store / "bank.safetensors"
    key, encoder = take_key(rig=spec.hash, poses=poses, seed=seed), take_key(vae=vae.sidecar)
    rows = None
    try:
        with safe_open(path, "np") as file:
            about = file.metadata() or {}
            if about.get("key") == key:
                rows = file.get_tensor("commands")
                if about.get("vae") == encoder:
                    return Bank(rows, file.get_tensor("lips"), file.get_tensor("latents"))
    except (OSError, SafetensorError):
        pass
    if rows is None:
        rows = babbled(spec, poses, speech=spoken_poses(spec), seed=seed)
    with LipCamera(spec) as camera, Progress("looking at babble", total=poses, unit="poses") as bar:
        bank = bank_of(rows, looker(camera, vae), bar.update)
    store.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    save_file(vars(bank), part, metadata={"key": key, "vae": encoder})
    part.replace(path)
    return bank


def spoken_poses(spec: RigSpec) -> Floats:
    """Commands of English sentences that the benchmark does not say, float32 [shape=(n, motors)]."""
    said = synthetic.sentences()["en-us"]
    model = SpeechModel.load(SpeechModel.shipped(80, "many"))
    best = controller("inverse", spec)
    rows = []
    for text in said:
        moved = model(espeak.speak(text).samples)
        face = np.repeat(rest_face()[None], len(moved), 0)
        face[:, indices("speech63"), :2] += moved
        rows.append(best.commands(ReferenceClip("babble", face)))
    return np.concatenate(rows)


def looker(camera: LipCamera, vae: Vae) -> Callable[[Floats], tuple[Floats, Floats]]:
    """Commands → landmarks by geometry and latents, by the twin at rest in each pose."""

    def look(commands: Floats) -> tuple[Floats, Floats]:
        views = camera.see(commands)
        return views.landmarks, vae.encode(views.crops)

    return look


def answers(
    names: Sequence[str],
    ideals: Sequence[Ideal],
    spec: RigSpec,
    vae: Vae,
    bank: Bank,
    seed: int,
    weights: Mapping[str, Path] | None = None,
    body: Body | None = None,
) -> dict[str, list[Answer]]:
    """Commands of each method that moves, for each clip; `weights`: files of other transformers by method.

    `body`: what the mirror showed of the rig's, for ``transformer-acquainted``.

    A learned method whose weights do not ship for this rig is left out, with a line on stderr.
    """
    weights = weights or {}
    references = [one.reference for one in ideals]
    out: dict[str, list[Answer]] = {}
    moving = [name for name in METHODS if name in names and name not in LATE]
    with Progress("commands", total=len(moving) * len(references), unit="clips") as bar:

        def answer(name: str, one: Controller) -> None:
            extra = encode_ms(vae) if name in LOOKING else 0.0
            out[name] = [_timed(one, reference, extra, bar) for reference in references]

        for name in moving:
            if name in LEARNED:
                try:
                    one = body.controller() if body and name == ACQUAINTED else learned(name, spec, weights)
                except UsageError as why:  # no weights ship for it: the others can still be compared
                    print(f"facetwin: {METHODS[name]} is left out: {why}", file=sys.stderr)
                    continue
                answer(name, one)
                if body and name == ACQUAINTED:
                    out[name] = [replace(a, timing=body.timing) for a in out[name]]
        best = out.get("gradient") or out.get("inverse")
        good = (
            [a.commands for a in best]
            if best
            else [controller("inverse", spec).commands(r) for r in references]
        )
        with LipCamera(spec) as camera:
            hindsight = bank.joined(bank_of(np.concatenate(good), looker(camera, vae)))
        makers: dict[str, Callable[[], Controller]] = {
            "amplitude": lambda: Amplitude.fit(references, good, spec),
            "nearest-landmarks": lambda: Nearest(bank, "landmarks", vae.standard),
            "nearest-latents": lambda: Nearest(bank, "latents", vae.standard),
            "random": lambda: Random(bank, seed),
            "frozen": lambda: Frozen(hindsight, "latents", vae.standard),
            "frozen-landmarks": lambda: Frozen(hindsight, "landmarks", vae.standard),
        }
        for name in moving:
            if name in makers:
                answer(name, makers[name]())
    return {name: out[name] for name in moving if name in out}


def _timed(one: Controller, reference: ReferenceClip, extra: float, bar: Progress) -> Answer:
    begin = time.process_time()
    commands = one.commands(reference)
    spent = (time.process_time() - begin) * 1000 / max(len(reference), 1)
    bar.advance()
    return Answer(commands, spent + extra)


def encode_ms(vae: Vae) -> float:
    """Time of one core to encode one lip crop by itself, ms: the median of some."""
    crop, times = np.full((1, 128, 128, 3), 127, np.uint8), []
    for _ in range(12):
        begin = time.process_time()
        vae.encode(crop)
        times.append(time.process_time() - begin)
    return float(np.median(times)) * 1000


def execute(
    rig: Rig,
    eye: Eye,
    told: Mapping[str, Sequence[Answer]],
    ideals: Sequence[Ideal],
    vae: Vae,
    store: Path,
    *,
    facts: Mapping[str, object],
    seed: int,
    films: bool = True,
) -> dict[str, list[Shown]]:
    """Play every answer on an activated rig and look again; takes of the same key are read from `store`."""
    shown: dict[str, list[Shown]] = {name: [] for name in told}
    total = sum(len(ideal) for ideal in ideals) * len(told)
    with Progress("executing", total=total, unit="pictures") as bar:
        for k, ideal in enumerate(ideals):
            for name, every in told.items():
                answer = every[k]
                timing = {} if answer.timing is None else {"timing": answer.timing.hash}
                key = take_key(**facts, **timing, commands=answer.commands, seed=seed + k)
                path = store / ideal.name / f"{name}.safetensors"
                take = load_take(path, key)
                if take is None:
                    film = path.with_suffix(".mp4") if films else None
                    take = eye.watch(rig, answer.commands, film, seed + k, answer.timing)
                    save_take(path, take, key)
                latents = vae.standard(vae.encode(take.crops))
                shown[name].append(Shown(take.seen, latents, take.sent, take.asked, answer.compute))
                bar.advance(len(ideal))
    return shown


def with_late(
    shown: dict[str, list[Shown]], wanted: Sequence[Wanted], names: Sequence[str]
) -> dict[str, list[Shown]]:
    """The same with the reference's own late copies, in the table's order."""
    every = dict(shown)
    for name, frames in LATE.items():
        if name in names or not frames:
            every[name] = [late_by(one, frames) for one in wanted]
    return {name: every[name] for name in METHODS if name in every}
