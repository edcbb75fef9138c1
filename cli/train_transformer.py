"""`facetwin train transformer`: the facial action transformer, from filmed babble and its own rollouts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from facetwin.cli.progress import Progress
from facetwin.twin.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from facetwin.policies.action_train import Lessons
    from facetwin.policies.action_transformer import ActionNet
    from facetwin.policies.controllers import ReferenceClip
    from facetwin.policies.dataset import Clip
    from facetwin.policies.image_self import Fitted
    from facetwin.policies.vae import Vae
    from facetwin.twin.spec import RigSpec

LICENCE = "Apache-2.0; GRID audiovisual sentence corpus (Cooke et al. 2006), CC BY 4.0, where it was used"
DREAMING = 16_000  # steps of the self-model of pictures
PILE = 16  # clips that the gradient inverse takes at once


@dataclass(frozen=True)
class TrainTransformer:
    """Learn commands from pictures (or sound): babble first, then own rollouts; prints both errors.

    Filmed babble is kept in --cache and goes on where it was stopped. With --speech the ways of babble are
    partly spoken, and reference videos of these clips are lessons, too.
    """

    inputs: str = "latents"
    """what the net is shown: latents of lip crops, or speech (what the speech model makes of the sound)"""
    speech: tuple[Path, ...] = ()
    """datasets of talking people (facetwin track) or talkers (synth): spoken babble and reference lessons"""
    clips: int = 300
    """clips of them, as many of each"""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """weights to write; default: the shipped ones of this rig"""
    rig: str = "face26"
    """rig table that babbles"""
    vae: Path | None = None
    """encoder of the lip crops; default: the shipped one of this rig"""
    ways: int = 600
    """ways of 64 pictures that are filmed"""
    others: int = 0
    """ways more that other bodies, cameras and lights film (randomised training)"""
    references: int = 64
    """clips of --speech that the ideal robot says, to learn from"""
    dreams: int = 3000
    """ways more that the self-model of pictures imagines"""
    steps: int = 3000
    """lessons"""
    felt: float = 0.1
    """weight of landmarks and gap in lessons by reference, against that of latents, .3"""
    start: Path | None = None
    """weights to go on from, also of another VAE"""
    cache: Path = Path(".cache/action")
    """where filmed babble is kept"""
    seed: int = 0
    """of everything random"""
    json: bool = False
    """print the scores as JSON"""


def run(options: TrainTransformer) -> int:
    """Babble, train, score on ways not trained on, write the weights."""
    import torch

    from facetwin import assets
    from facetwin.policies import action_train
    from facetwin.policies.action_transformer import INPUTS, save
    from facetwin.policies.weights import provenance
    from facetwin.twin.spec import load_rig

    torch.set_num_threads(1)
    if options.inputs not in INPUTS:
        raise UsageError("no such input", where="--inputs", found=options.inputs,
                         expected="one of " + ", ".join(INPUTS))  # fmt: skip
    if options.ways < 100:
        raise UsageError("too few ways to split", where="--ways", found=options.ways, expected="100 or more")
    if not 0 <= options.felt <= 100:
        raise UsageError("no such weight", where="--felt", found=options.felt, expected="0 to 100")
    spec = load_rig(options.rig)
    clips = _clips(options)
    make = _by_pictures if options.inputs == "latents" else _by_motion
    course = make(options, spec, clips, _spoken(options, spec, clips))
    known = None if course.known is None else course.known.net
    settings = action_train.Training(steps=options.steps, felt=options.felt, seed=options.seed)
    with Progress("training the transformer", total=options.steps) as bar:
        net = action_train.train(
            spec, course.babble, course.references, inputs=options.inputs, self_image=known,
            options=settings, start=_start(options), progress=bar.advance,
        )  # fmt: skip
    errors = action_train.command_errors(net, course.test, spec)
    ratio = errors["free rollout"] / errors["teacher-forced"]
    scores = {"commands_on_unseen_ways": errors, "rollout_to_teacher_forced": ratio, **course.scores}
    path = options.out or assets.path("weights", f"transformer_{options.inputs}_{spec.name}.safetensors")
    save(path, net, {
        "kind": "action transformer", "data": course.data, "licence": LICENCE, **provenance(),
        "seed": options.seed, "rig": spec.name, "rig_hash": spec.hash, "motors": list(spec.names),
        "vae": course.vae, "training": asdict(settings), "scores": scores,
    })  # fmt: skip
    if course.known is not None:
        _save_self(path.with_name(f"image_self_{spec.name}.safetensors"), course, spec, options)
    if options.json:
        print(json.dumps({"weights": str(path), "scores": scores}))
        return 0
    ways, pictures = course.test.shown.shape[:2]
    print(f"{ways} unseen ways of {pictures} pictures; mean error of a command, range 0..1")
    for name, error in errors.items():
        print(f"  {name:32}{error:8.4f}")
    print(f"  free rollout / teacher-forced   {ratio:8.3f}")
    print(f"wrote {path}")
    return 0


def _save_self(path: Path, course: Course, spec: RigSpec, options: TrainTransformer) -> None:
    """Beside the transformer, the self-model that it learned through: its answers are refined by it."""
    from facetwin.policies import image_self
    from facetwin.policies.weights import provenance

    known = course.known
    assert known is not None
    image_self.save(path, known, {
        "kind": "self-model of pictures", "data": course.data, "licence": LICENCE, **provenance(),
        "seed": options.seed, "rig": spec.name, "rig_hash": spec.hash, "motors": list(spec.names),
        "vae": course.vae, "scores": {"unseen ways": {"latents_std": known.latents, "lips_u": known.points}},
    })  # fmt: skip


def _start(options: TrainTransformer) -> ActionNet | None:
    from facetwin.policies.action_transformer import restore
    from facetwin.policies.weights import load_weights

    if options.start is None:
        return None
    net = restore(*load_weights(options.start), options.start)
    if net.shape.inputs != options.inputs:
        raise UsageError("a transformer of another input", where=options.start, found=net.shape.inputs,
                         expected=options.inputs)  # fmt: skip
    return net


@dataclass(frozen=True)
class Course:
    """All that a training run learns from and is scored on."""

    babble: Lessons
    test: Lessons
    references: Lessons | None
    data: str
    known: Fitted | None = None
    vae: str = ""
    scores: dict[str, Any] = field(default_factory=dict)


def _by_pictures(
    options: TrainTransformer, spec: RigSpec, clips: list[Clip], spoken: list[NDArray[np.float32]]
) -> Course:
    """Babble as the VAE sees it, filmed and dreamt, and the ideal robot."""
    from facetwin import assets
    from facetwin.policies import action_data, image_self
    from facetwin.policies.action_train import babble_lessons, reference_lessons
    from facetwin.policies.action_transformer import vae_hash
    from facetwin.policies.controllers import rest_face
    from facetwin.policies.vae import Vae
    from facetwin.twin.landmarks import indices

    encoder = options.vae or assets.path("weights", f"vae_{spec.name}.safetensors")
    vae = Vae.load(encoder)

    def filmed(name: str, count: int, bodies: int, seed: int) -> action_data.ActionData:
        folder = options.cache / name
        with Progress(f"filming {name}", total=count, unit="ways") as bar:
            action_data.film(
                folder, spec, count, spoken=spoken, bodies=bodies, seed=seed, progress=bar.advance
            )
        with Progress(f"encoding {name}", total=count, unit="ways") as bar:
            return action_data.read(folder, vae, count, vae_hash(encoder), bar.advance)

    lived, check, test = filmed("own", options.ways, 0, options.seed).split()
    kept = (
        options.cache / f"self-{vae_hash(encoder)[:12]}-{options.ways}-{options.seed}-{DREAMING}.safetensors"
    )
    if not kept.exists():
        with Progress("learning what commands look like", total=DREAMING) as bar:
            image_self.fit(lived, check, steps=DREAMING, seed=options.seed, progress=bar.advance).save(kept)
    known = image_self.Fitted.load(kept)
    parts = [lived]
    if options.dreams:
        parts.append(image_self.dream(known, spec, options.dreams, spoken=spoken, seed=options.seed + 2))
    if options.others:
        parts.append(
            filmed("others", options.others, max(1, options.others // 20), options.seed + 1).split()[0]
        )
    wanted = _references(options, spec, clips, vae, encoder)
    rest = rest_face()[indices("speech63"), :2]
    return Course(
        babble_lessons(action_data.join(parts), "latents", rest),
        babble_lessons(test, "latents", rest),
        reference_lessons(wanted, "latents", rest) if wanted else None,
        f"{options.ways} ways filmed, {options.others} of other bodies and cameras, {options.dreams} dreamt; "
        f"{len(wanted)} references, {len(spoken)} spoken clips{_named(options)}",
        known,
        vae_hash(encoder),
        {"self_image": {"latents_std": known.latents, "lips_u": known.points}},
    )


def _by_motion(
    options: TrainTransformer, spec: RigSpec, clips: list[Clip], spoken: list[NDArray[np.float32]]
) -> Course:
    """Babble as points move, by the fast skin, and people's motions, tracked and heard; no pictures."""
    from facetwin.policies.action_data import feel
    from facetwin.policies.action_train import babble_lessons, reference_lessons
    from facetwin.policies.felt_face import FeltFace

    face = FeltFace(spec)
    count = options.ways + options.dreams
    with Progress("feeling babble", total=count, unit="ways") as bar:
        data = feel(face, count, spoken=spoken, seed=options.seed, progress=bar.advance)
    train, _, test = data.split()
    motions, rest = _motions(clips), face.rest.numpy()
    return Course(
        babble_lessons(train, "speech", rest),
        babble_lessons(test[: options.ways // 10], "speech", rest),
        reference_lessons(motions, "speech", rest) if motions else None,
        f"{count} ways through the fast skin; {len(motions)} motions, "
        f"{len(spoken)} spoken clips{_named(options)}",
    )


def _named(options: TrainTransformer) -> str:
    return " of " + ", ".join(folder.name for folder in options.speech) if options.speech else ""


def _clips(options: TrainTransformer) -> list[Clip]:
    """Clips of all datasets in turn, their landmarks counted from each talker's rest."""
    from itertools import chain, zip_longest

    from facetwin.policies.dataset import load_clips
    from facetwin.policies.speech_data import by_talker, resting

    sets: list[list[Clip]] = []
    for folder in options.speech:
        every = load_clips(folder, max(1, options.clips // len(options.speech)))
        rests = {name: resting(own) for name, own in by_talker(every).items()}
        sets.append([replace(clip, landmarks=clip.landmarks - rests[clip.talker]) for clip in every])
    return [clip for clip in chain.from_iterable(zip_longest(*sets)) if clip is not None]


def _kept(options: TrainTransformer, clips: list[Clip]) -> str:
    """What files made of these clips are called by."""
    from hashlib import sha256

    return sha256("|".join([_named(options), *(clip.name for clip in clips)]).encode()).hexdigest()[:10]


def _spoken(options: TrainTransformer, spec: RigSpec, clips: list[Clip]) -> list[NDArray[np.float32]]:
    """Commands that follow the tracked people, by the gradient inverse; kept in the cache."""
    import numpy as np
    from safetensors.numpy import load_file, save_file

    from facetwin.policies.gradient_inverse import Descent, GradientInverse

    if not clips:
        return []
    kept = options.cache / f"spoken-{spec.hash[:12]}-{_kept(options, clips)}.safetensors"
    if not kept.exists():
        teacher, out = GradientInverse(spec, Descent(steps=40)), []
        wanted = [_on_robot(clip) for clip in clips]
        with Progress("following people", total=len(clips), unit="clips") as bar:
            for k in range(0, len(wanted), PILE):
                out += teacher.many(wanted[k : k + PILE])
                bar.advance(len(wanted[k : k + PILE]))
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_name(kept.name + ".part")
        save_file({f"{k:05d}": one for k, one in enumerate(out)}, part)
        part.replace(kept)
    tables = load_file(kept)
    return [np.asarray(tables[name]) for name in sorted(tables)]


def _on_robot(clip: Clip) -> ReferenceClip:
    """A person's motion, from `_clips`, on the robot's face at rest."""
    import numpy as np

    from facetwin.policies.controllers import ReferenceClip, rest_face
    from facetwin.twin.landmarks import indices

    ids = indices("speech63")
    face = np.repeat(rest_face()[None], len(clip), 0)
    face[:, ids, :2] += clip.landmarks[:, ids, :2]
    return ReferenceClip(clip.name, face, samples=clip.samples)


def _references(
    options: TrainTransformer, spec: RigSpec, clips: list[Clip], vae: Vae, encoder: Path
) -> list[ReferenceClip]:
    """The ideal robot saying clips; what was drawn is kept.

    People's are moved by the speech model every second time: tracked lips hardly close. Synthetic talkers'
    close where they should.
    """
    from safetensors.numpy import load_file, save_file

    from facetwin.policies.action_transformer import vae_hash
    from facetwin.policies.controllers import ReferenceClip
    from facetwin.policies.speech import SpeechModel
    from facetwin.twin.lip_camera import LipCamera
    from facetwin.twin.skin.ideal import IdealSkin

    chosen = clips[: options.references]
    if not chosen:
        return []
    folder, whose = options.cache / f"ideal-{spec.hash[:12]}-{_kept(options, chosen)}", vae_hash(encoder)
    folder.mkdir(parents=True, exist_ok=True)
    ideal, model, out = IdealSkin(spec), SpeechModel.load(SpeechModel.shipped(80, "many")), []
    with LipCamera(spec) as camera, Progress("ideal robot", total=len(chosen), unit="clips") as bar:
        for k, clip in enumerate(chosen):
            heard = clip.phonemes is None and k // len(options.speech) % 2
            kept = folder / f"{clip.name}-{'heard' if heard else 'seen'}.safetensors"
            if not kept.exists():
                person = _on_robot(clip).displacement()
                motion = ideal(model(clip.samples)[: len(clip)] if heard else person)
                views = camera.show(motion.vertices, motion.poses)
                part = kept.with_name(kept.name + ".part")
                save_file({"crops": views.crops, "landmarks": views.landmarks, "gap": views.gap_mm}, part)
                part.replace(kept)
            tables = load_file(kept)
            latents = vae.encode(tables["crops"])
            out.append(
                ReferenceClip(clip.name, tables["landmarks"], latents, clip.samples, tables["gap"], vae=whose)
            )
            bar.advance()
    return out


def _motions(clips: list[Clip]) -> list[ReferenceClip]:
    """Motions alone, as tracked and as the speech model hears them; lips are shut where they are nearly."""
    import numpy as np

    from facetwin.policies.controllers import ReferenceClip, rest_face
    from facetwin.policies.gradient_inverse import guessed_gap
    from facetwin.policies.speech import SpeechModel
    from facetwin.twin.landmarks import indices

    model, ids, out = SpeechModel.load(SpeechModel.shipped(80, "many")), indices("speech63"), []
    with Progress("listening", total=len(clips), unit="clips") as bar:
        for clip in clips:
            heard = np.repeat(rest_face()[None], len(clip), 0)
            heard[:, ids, :2] += model(clip.samples)[: len(clip)]
            for face in (_on_robot(clip).landmarks, heard):
                bare = ReferenceClip(clip.name, face)
                out.append(ReferenceClip(clip.name, face, gap_mm=guessed_gap(bare.displacement())))
            bar.advance()
    return out
