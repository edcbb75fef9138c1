"""The reference of ``facetwin bench lipsync``: the ideal robot saying each clip, looked at like any other."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from facetwin.cli.perform import FPS
from facetwin.cli.progress import Progress
from facetwin.cli.recapture import look_at
from facetwin.cli.watcher import Watcher
from facetwin.policies.closed_loop import KEPT, Seen
from facetwin.policies.controllers import ReferenceClip
from facetwin.policies.lipsync_clips import LipClip
from facetwin.policies.lipsync_score import Wanted
from facetwin.policies.lipsync_takes import take_key
from facetwin.policies.vae import Vae
from facetwin.policies.video import VideoWriter
from facetwin.twin.face import Face, load_face
from facetwin.twin.kinematics import Kinematics
from facetwin.twin.lip_camera import LipCamera
from facetwin.twin.raster import RasterCamera
from facetwin.twin.skin.ideal import IdealSkin
from facetwin.twin.skin.lip_teeth import LipRuler
from facetwin.twin.spec import RigSpec

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Ideal:
    """What one clip should look like.

    Attributes
    ----------
    clip : LipClip
    reference : ReferenceClip, what methods are given
    wanted : Wanted, what they are scored against
    """

    clip: LipClip
    reference: ReferenceClip
    wanted: Wanted

    @property
    def name(self) -> str:
        """Of the clip."""
        return self.clip.name

    def __len__(self) -> int:
        return len(self.reference)


class Studio:
    """Makes ideals: skin moved without motors, drawn by the rig table's own camera, without noise."""

    def __init__(self, spec: RigSpec, vae: Vae, way: str, stack: ExitStack, encoder: str = "") -> None:
        self.spec, self.vae, self._encoder = spec, vae, encoder
        self.face: Face = load_face()
        self._poses: dict[str, Any] = dict(Kinematics(spec, self.face).poses(spec.rest))
        self._skin: IdealSkin | None = None
        self._lips = stack.enter_context(LipCamera(spec))
        self._ruler = LipRuler(self.face)
        self._camera = RasterCamera(self.face, spec.cameras["mirror"])
        stack.callback(self._camera.close)
        self._watcher = stack.enter_context(Watcher()) if way == "tracker" else None

    def ideal(self, clip: LipClip, store: Path) -> Ideal:
        """One clip; its shapes and its film are kept in the folder `store`."""
        shapes, poses = self._shapes(clip, store)
        views = self._lips.show(shapes, poses)
        latents = self.vae.encode(views.crops)
        reference = ReferenceClip(
            clip.name, views.landmarks, latents, clip.samples, views.gap_mm, vae=self._encoder
        )
        lips = [asdict(self._ruler(shape)) for shape in shapes]
        lengths = {key: np.array([1e3 * one[key] for one in lips], np.float32) for key in lips[0]}
        mirrored = self.spec.cameras["mirror"].mirror
        pictures = self._camera.render_batch(shapes, poses)
        rest = self._camera.render_batch(self.face.rest[None], self._poses)[0]
        height, width = pictures.shape[1:3]
        with VideoWriter(store / "reference.mp4", FPS, (width, height)) as writer:
            for picture in pictures:
                writer.write(picture)
        if self._watcher is None:
            still = self._lips.show(self.face.rest[None], self._poses).landmarks[0]
            seen = Seen(still, views.landmarks[:, KEPT], np.ones(len(clip), bool))
        else:
            seen, crops = look_at(pictures, rest, self._watcher, mirrored=mirrored)
            latents = self.vae.encode(crops)
        seen = replace(seen, gap=views.gap_mm, lips=lengths)
        wanted = Wanted(clip.name, clip.group, seen, self.vae.standard(latents), clip.onsets)
        return Ideal(clip, reference, wanted)

    def _shapes(self, clip: LipClip, store: Path) -> tuple[Floats, dict[str, Any]]:
        """Skin (T, V, 3) in m and poses of the links of the ideal robot; solved once and kept in `store`."""
        key = take_key(kind="ideal", rig=self.spec.hash, moves=clip.displacement)
        path = store / "ideal.safetensors"
        try:
            with safe_open(path, "np") as file:
                if (file.metadata() or {}).get("key") == key:
                    a = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                    return a.pop("vertices"), a
        except (OSError, SafetensorError, KeyError):
            pass
        self._skin = self._skin or IdealSkin(self.spec, self.face)
        motion = self._skin(clip.displacement)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        arrays = {"vertices": motion.vertices, **motion.poses}
        save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, part, metadata={"key": key})
        part.replace(path)
        return motion.vertices, dict(motion.poses)


def make_ideals(
    clips: list[LipClip],
    spec: RigSpec,
    vae: Vae,
    way: str,
    store: Path,
    stack: ExitStack,
    encoder: str = "",
) -> list[Ideal]:
    """The reference of every clip, kept in `store`; `encoder` is the hash of the VAE's file."""
    studio = Studio(spec, vae, way, stack, encoder)
    out = []
    with Progress("ideal robot", total=len(clips), unit="clips") as bar:
        for clip in clips:
            out.append(studio.ideal(clip, store / clip.name))
            bar.advance()
    return out
