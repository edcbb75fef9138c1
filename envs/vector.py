"""``facetwin/MirrorBabble-v0`` for many faces at once: native batches instead of many environments.

Motors behind their safety layers (`Fleet`), the fast skin, landmarks by geometry and the fast renderer, all
batched. A face of it does what a single environment does that is made with
``rig="sim:?solver=fast&renderer=fast", landmarks="geometry"``: the same commands bit for bit, the same
landmarks and pictures but for the last bits of float32. Bodies, cameras and lights may differ from face to
face, skins may not.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from facetwin.envs.mirror import LIMIT, TICK, _checked_size
from facetwin.envs.mirror_babble import MEMORY, REWARDS
from facetwin.hardware.fleet import Fleet
from facetwin.hardware.names import parse_name
from facetwin.twin.changing import optics
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.face import load_face
from facetwin.twin.geometry import GeometricLandmarks
from facetwin.twin.grain import add_grains
from facetwin.twin.kinematics import Kinematics
from facetwin.twin.landmarks import POINTS, indices
from facetwin.twin.moving import STEP
from facetwin.twin.moving_batch import MovingFaces
from facetwin.twin.randomise import chosen, draw
from facetwin.twin.raster import RasterCamera
from facetwin.twin.skin.fast import FastSkin
from facetwin.twin.skin.gap import lip_gaps
from facetwin.twin.spec import CameraSpec, RigSpec, load_rig

Obs = dict[str, NDArray[Any]]
Floats = NDArray[np.float64]
CHUNK = 32  # faces that are drawn together
#: what may be drawn here; anything else would need a skin of its own for each face
DRAWN = re.compile(
    r"servo\.[^.]+(\.factor)?|motor\.[^.]+\.(scale|trim)(\.factor)?"
    r"|skin_time\.(creep_share|creep_time|mode_damping)(\.factor)?"
    r"|camera\.[^.]+\.(?!width|height|mirror\b).+"
)


class MirrorBabbleVector(VectorEnv[Obs, NDArray[np.float32], NDArray[Any]]):
    """Many faces babbling before their mirrors.

    Spaces, rewards and episodes are those of `facetwin.envs.mirror_babble.MirrorBabble`. An episode that is
    over begins anew with the next `step`, which ignores that face's action (`AutoresetMode.NEXT_STEP`).

    Info, arrays with one row a face: ``face_found`` (always), ``sent``, ``time`` (s), ``gap_mm``, and
    ``held_back``, why a motor is not where it was asked to be (`Fleet.held_back`); ``trust``, False where the
    fast skin says that it may be wrong.

    Parameters
    ----------
    num_envs : int
    rig : str
        ``"sim:"``, ``"sim:NAME"`` or ``"sim:FILE.toml"``.
    size : int or (width, height), px
    settle : float, s
    samples : 1 or 4
        Samples a pixel.
    reward : None or "novelty"
    threads : int, optional
        Default: one a core.
    max_episode_steps : int, optional
    render_mode : "rgb_array" or None

    Raises
    ------
    UsageError
        A rig that is not simulated, or that no fast skin was fitted to.

    >>> import gymnasium
    >>> env = gymnasium.make_vec(
    ...     "facetwin.envs:facetwin/MirrorBabble-v0", num_envs=3, vectorization_mode="vector_entry_point"
    ... )
    >>> seen, info = env.reset(seed=0)
    >>> seen["image"].shape, seen["landmarks"].shape
    ((3, 64, 64, 3), (3, 478, 3))
    >>> env.close()
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": ["rgb_array"], "render_fps": 2, "autoreset_mode": AutoresetMode.NEXT_STEP,
    }  # fmt: skip

    def __init__(
        self,
        num_envs: int = 1,
        rig: str = "sim:",
        *,
        size: int | tuple[int, int] = 64,
        settle: float = 0.5,
        samples: int = 1,
        reward: str | None = None,
        threads: int | None = None,
        max_episode_steps: int | None = 200,
        render_mode: str | None = None,
    ) -> None:
        where = type(self).__name__
        if num_envs < 1:
            raise UsageError("no faces", where=where, found=num_envs, expected="num_envs of 1 or more")
        if reward not in REWARDS:
            raise UsageError("unknown reward", where=where, found=reward, expected="None or novelty")
        if render_mode not in (None, "rgb_array"):
            raise UsageError("unknown render mode", where=where, found=render_mode, expected="rgb_array")
        if not TICK <= settle <= 60:
            raise UsageError("bad settle", where=where, found=settle, expected="0.02 to 60 s")
        scheme, place, options = parse_name(rig)
        if scheme != "sim" or options:
            raise UsageError(
                "only simulated faces move in one batch", where=where, found=rig, expected="sim: or sim:NAME",
                hint='vectorization_mode="async" takes any rig',
            )  # fmt: skip
        self.rig_spec = load_rig(place or "face26")
        self.num_envs, self.settle, self.render_mode = int(num_envs), float(settle), render_mode
        self.metadata = {**self.metadata, "render_fps": max(1, round(1 / settle))}
        self.width, self.height = _checked_size(size, where) or (64, 64)
        self.face = load_face()
        self._kinematics = Kinematics(self.rig_spec, self.face)
        self._skin = FastSkin.load(self.rig_spec, self.face, kinematics=self._kinematics)
        self._points = GeometricLandmarks(self.face)
        self._moving = None if self.rig_spec.skin_time.still else self._memory_of_skins()
        self._lips = (
            self.face.triangles_of("upper_lip", "upper_rim").astype(np.int64),
            self.face.triangles_of("lower_lip", "lower_rim").astype(np.int64),
        )
        self._fleet = Fleet([self.rig_spec] * self.num_envs, longest=self.settle)
        self._chunks = [slice(k, min(k + CHUNK, num_envs)) for k in range(0, num_envs, CHUNK)]
        threads = min(threads or os.cpu_count() or 1, len(self._chunks))
        self._samples = samples
        self._lens = optics(self.rig_spec.cameras["mirror"])
        self._cameras = [self._camera(self._lens) for _ in self._chunks]
        self._eyes = [self._cameras[b // CHUNK] for b in range(self.num_envs)]
        self._still = np.full(self.num_envs, self.rig_spec.skin_time.still)
        self._crew = ThreadPoolExecutor(threads, thread_name_prefix="facetwin face") if threads > 1 else None
        n = self.rig_spec.size
        self.single_action_space = spaces.Box(0.0, 1.0, (n,), np.float32)
        self.single_observation_space = spaces.Dict(
            {
                "image": spaces.Box(0, 255, (self.height, self.width, 3), np.uint8),
                "landmarks": spaces.Box(-LIMIT, LIMIT, (POINTS, 3), np.float32),
                "commands": spaces.Box(0.0, 1.0, (n,), np.float32),
            }
        )
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self._steps = np.zeros(self.num_envs, np.int64)
        self._most = max_episode_steps or np.iinfo(np.int64).max
        self._over = np.zeros(self.num_envs, np.bool_)
        self._seeds = np.zeros(self.num_envs, np.int64)
        self._randoms: list[np.random.Generator] = []
        self._known: list[deque[NDArray[np.float32]]] = [deque(maxlen=MEMORY) for _ in range(self.num_envs)]
        self._novelty = reward == "novelty"
        self._drawn: list[dict[str, float]] = [{} for _ in range(self.num_envs)]
        self._randomise: Any = None
        self._image = np.zeros((self.num_envs, self.height, self.width, 3), np.uint8)
        self._landmarks = np.zeros((self.num_envs, POINTS, 3), np.float32)
        self._gap = np.zeros(self.num_envs)
        self._trust = np.ones(self.num_envs, np.bool_)
        self.closed = False

    # --- Gymnasium ---------------------------------------------------------------------------------

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> tuple[Obs, dict[str, Any]]:
        """Begin episodes at rest.

        Face i is seeded with seed[i], or seed + i. Options: ``reset_mask`` (bool [shape=(B,)]: only these),
        ``randomise`` as in a single environment, for servos, horns, creep, camera and light (``True``: all
        of these); it holds until the next `reset`.
        """
        self._check_open("reset()")
        asked = dict(options or {})
        mask = np.asarray(asked.pop("reset_mask", np.ones(self.num_envs, np.bool_)))
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_:
            raise UsageError("not a mask", where="reset(): reset_mask", found=f"{mask.dtype} {mask.shape}",
                             expected=f"bool ({self.num_envs},)")  # fmt: skip
        self._randomise = asked.pop("randomise", None)
        if asked:
            raise UsageError("unknown option", where="reset()", found=next(iter(asked)),
                             expected="one of reset_mask, randomise")  # fmt: skip
        seeds = self._seeds_of(seed)
        if not self._randoms:
            self._randoms = [seeding.np_random(s)[0] for s in seeds]
        for b in np.flatnonzero(mask):
            if seeds[b] is not None:
                self._randoms[b] = seeding.np_random(seeds[b])[0]
        self._begin(np.flatnonzero(mask))
        self._look()
        for b in np.flatnonzero(mask):
            self._new(int(b))
        return self._observation(), self._info()

    def step(
        self, actions: ArrayLike
    ) -> tuple[Obs, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Send commands [shape=(B, n)] for `settle` seconds, look, begin anew what was over."""
        self._check_open("step()")
        if not self._randoms:
            raise FaceTwinError("no episode has begun", where="step()", hint="reset() first")
        commands = self._checked(actions)
        anew, going = np.flatnonzero(self._over), ~self._over
        writes = max(1, round(self.settle / TICK))
        self._fleet.move(commands, self.settle, writes, going, crew=self._crew, parts=self._chunks)
        self._steps[going] += 1
        self._begin(anew)
        self._look()
        rewards = np.array([self._new(b) for b in range(self.num_envs)])
        rewards[anew] = 0.0
        self._over = self._steps >= self._most
        nothing = np.zeros(self.num_envs, np.bool_)
        return self._observation(), rewards, nothing, self._over.copy(), self._info()

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """The last pictures, one a face; None without a render mode."""
        return None if self.render_mode is None else tuple(self._image.copy())

    def close_extras(self, **_: Any) -> None:
        """Free the cameras and end the threads."""
        if self._crew is not None:
            self._crew.shutdown()
        for camera in self._cameras:
            camera.close()

    # --- how ---------------------------------------------------------------------------------------

    def _begin(self, which: NDArray[np.intp]) -> None:
        if not len(which):
            return
        bodies: list[RigSpec] = []
        for b in which:
            body = self.rig_spec
            drawn: dict[str, float] = {}
            if self._randomise not in (None, False):
                body, drawn = draw(self.rig_spec, self._randoms[b], self._choice())
            bodies.append(body)
            self._drawn[b] = drawn
            self._seeds[b] = self._randoms[b].integers(2**31)
            self._known[b].clear()
        self._fleet.reset(which, bodies)
        for b, body in zip(which, bodies):
            self._eyes[b] = self._eye(int(b), optics(body.cameras["mirror"]))
        self._still[which] = [body.skin_time.still for body in bodies]
        if self._moving is None and not self._still.all():
            self._moving = self._memory_of_skins()
        if self._moving is not None:
            at = self._fleet.positions()[0][which]
            with torch.no_grad():
                shapes = self._skin(torch.from_numpy(at)).vertices.numpy()
            self._moving.reset(which, at, shapes, [body.skin_time for body in bodies])
        self._steps[which] = 0
        self._over[which] = False

    def _camera(self, lens: CameraSpec, beside: RasterCamera | None = None) -> RasterCamera:
        size = (self.width, self.height)
        return RasterCamera(self.face, lens, size=size, samples=self._samples, beside=beside)

    def _eye(self, b: int, lens: CameraSpec) -> RasterCamera:
        """Face b's camera: its chunk's, or one with optics of its own."""
        usual = self._cameras[b // CHUNK]
        if lens == self._lens:
            return usual
        return self._eyes[b] if self._eyes[b].spec == lens else self._camera(lens, beside=usual)

    def _memory_of_skins(self) -> MovingFaces:
        at = np.tile(self.rig_spec.rest, (self.rig_spec.size + 1, 1))
        at[1:] += STEP * np.eye(self.rig_spec.size)
        with torch.no_grad():
            solved = self._skin(torch.from_numpy(at)).vertices.numpy().astype(np.float64)
        slope = (solved[1:] - solved[0]) / STEP
        return MovingFaces(self.rig_spec.skin_time, self._kinematics.anchored, slope, self.num_envs)

    def _choice(self) -> Any:
        """What is drawn: all that can be, or what was asked for, if it can be."""
        asked = chosen(self.rig_spec, self._randomise)
        fine = {key: ends for key, ends in asked.items() if DRAWN.fullmatch(key)}
        if len(fine) < len(asked) and self._randomise is not True:
            raise UsageError(
                "not drawn in a batch", where="reset(): randomise",
                found=next(key for key in asked if key not in fine),
                expected="servo.KEY, motor.NAME.scale or .trim, skin_time.KEY or camera.NAME.KEY",
                hint="single environments draw the skin's material, too",
            )  # fmt: skip
        return fine

    def _look(self) -> None:
        positions, self._when, numbers = self._fleet.positions()

        def look(k: int) -> None:
            self._look_at(self._chunks[k], positions, numbers)

        if self._crew is None:
            for k in range(len(self._chunks)):
                look(k)
        else:
            list(self._crew.map(look, range(len(self._chunks))))

    def _look_at(self, part: slice, positions: Floats, numbers: NDArray[np.int64]) -> None:
        """Shapes, landmarks and pictures of some faces; any thread may do it."""
        fleet, at = self._fleet, positions[part]
        with torch.no_grad():
            shapes = self._skin(torch.from_numpy(at))
        vertices, gap = shapes.vertices.numpy(), shapes.gap.numpy()
        if self._moving is not None:
            vertices = self._moving.look(
                part, vertices, at, self._when[part], fleet.trail, fleet.last, fleet.done, fleet.kept,
                fleet.tick, fleet.scale, fleet.trim,
            )  # fmt: skip
            gap = np.where(self._still[part], gap, lip_gaps(vertices, *self._lips))  # of what is shown
        poses = self._kinematics.poses(at)
        self._landmarks[part] = np.clip(self._points.aligned(vertices, poses), -LIMIT, LIMIT)
        self._gap[part], self._trust[part] = gap * 1e3, shapes.trust.numpy()
        start = 0
        for eye, faces in groupby(self._eyes[part]):
            some = slice(start, start := start + len(list(faces)))
            here = {link: pose[some] for link, pose in poses.items()}
            eye.render_batch(vertices[some], here, out=self._image[part][some])
        levels = np.array([fleet.specs[b].cameras["mirror"].noise for b in range(part.start, part.stop)])
        add_grains(self._image[part], levels, self._seeds[part], numbers[part] + 2**20)

    def _new(self, b: int) -> float:
        """Novelty of face b's pose, remembered."""
        if not self._novelty:
            return 0.0
        points = self._landmarks[b, indices("face113"), :2].copy()  # (113, 2)
        away = 0.0
        if self._known[b]:
            away = float(np.linalg.norm(np.stack(list(self._known[b])) - points, axis=-1).mean(-1).min())
        self._known[b].append(points)
        return away

    def _observation(self) -> Obs:
        return {
            "image": self._image.copy(),
            "landmarks": self._landmarks.copy(),
            "commands": self._fleet.sent.astype(np.float32),
        }

    def _info(self) -> dict[str, Any]:
        found = np.ones(self.num_envs, np.bool_)
        info: dict[str, Any] = {
            "face_found": found.copy(),
            "sent": self._fleet.sent.copy(),
            "held_back": self._fleet.held_back.copy(),
            "time": self._when.copy(),
            "gap_mm": self._gap.copy(),
            "trust": self._trust.copy(),
        }
        if any(self._drawn):
            drawn = np.empty(self.num_envs, object)
            drawn[:] = self._drawn
            info["drawn"] = drawn
        return info | {f"_{key}": found.copy() for key in tuple(info)}

    def _seeds_of(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, (int, np.integer)):
            return [int(seed) + b for b in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise UsageError("not a seed a face", where="reset()", found=len(seed), expected=self.num_envs)
        return list(seed)

    def _checked(self, actions: ArrayLike) -> NDArray[np.float64]:
        given = np.asarray(actions, dtype=np.float64)
        expected = (self.num_envs, self.rig_spec.size)
        if given.shape != expected:
            raise FaceTwinError("not commands", where="step(): actions", found=given.shape, expected=expected)
        if not np.isfinite(given).all():
            b, i = np.argwhere(~np.isfinite(given))[0]
            raise FaceTwinError("not a command", where=f"step(): face {b}, {self.rig_spec.names[i]}",
                                found=float(given[b, i]), expected="a finite number in [0, 1]")  # fmt: skip
        return given

    def _check_open(self, where: str) -> None:
        if self.closed:
            raise FaceTwinError("the environment is closed", where=where, hint="make a new one")
