"""A head that PyBullet moves: the body of an emulated rig, and a second opinion on servos and bones.

`BulletHead` loads the URDF of a rig and drives its joints by PyBullet's own motors, limited in torque and
speed. It answers like `servo.ServoBank`, which it stands in for, with another law and other faults: no dead
band, no backlash, but inertia. `BulletTwin` is a face whose skin is `BulletSkin`. Skin and bones are two
worlds, and the skin's pull does not slow the motors down; `BulletTwin.load` says how much it would.
"""

from __future__ import annotations

import tempfile
from collections import deque
from pathlib import Path
from types import TracebackType

import numpy as np
import pybullet
from numpy.typing import ArrayLike, NDArray

from facetwin.twin.camera import Camera
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.face import Face, load_face
from facetwin.twin.kinematics import Kinematics
from facetwin.twin.skin.base import Material
from facetwin.twin.skin.bullet import BulletSkin, open_client
from facetwin.twin.skin.gap import lip_gap
from facetwin.twin.spec import RigSpec
from facetwin.twin.twin import State
from facetwin.twin.urdf import build_urdf, followers

Floats = NDArray[np.float64]
STEP = 1e-3  # s, longest step of the joints


class BulletHead:
    """Motors, joints and bones of a rig in PyBullet, without skin.

    Parameters
    ----------
    spec : RigSpec
        Limits and speeds, and for the motors' laws `latency` and `natural_frequency`.
    dt : float, s
        Length of a tick.
    face : Face, optional
        Where the pivots are; the shipped face by default.
    """

    def __init__(self, spec: RigSpec, dt: float = 0.005, face: Face | None = None) -> None:
        if not (np.isfinite(dt) and dt > 0):
            raise FaceTwinError("bad tick", where="BulletHead", found=dt, expected="dt > 0 s")
        self.spec, self.dt = spec, float(dt)
        self.face = face or load_face()
        self._client, self._free_client = open_client(self)
        c = self._client
        self._count = max(1, int(np.ceil(dt / STEP - 1e-9)))
        pybullet.setTimeStep(dt / self._count, physicsClientId=c)
        self._body = load_urdf(build_urdf(spec, self.face), c)
        joints, self._links = {}, {"body": -1}
        for j in range(pybullet.getNumJoints(self._body, physicsClientId=c)):
            info = pybullet.getJointInfo(self._body, j, physicsClientId=c)
            joints[info[1].decode()], self._links[info[12].decode()] = j, j
        self.joints: dict[str, int] = joints
        self._motors = [joints[name] for name in spec.names]
        self._follow = [(joints[f], spec.index(m), axis) for f, (m, axis) in followers(spec).items()]
        for j in range(len(joints)):  # PyBullet brakes every joint unless told not to
            pybullet.setJointMotorControl2(
                self._body, j, pybullet.VELOCITY_CONTROL, force=0, physicsClientId=c
            )
        info = [pybullet.getJointInfo(self._body, j, physicsClientId=c) for j in self._motors]
        self._force, self._speed = [i[10] for i in info], [i[11] for i in info]
        # PyBullet's motor asks for gain x error / step of speed: half the lag of a critically damped servo
        omega = np.array([2 * np.pi * m.natural_frequency for m in spec.motors])
        self._gain = (np.minimum(0.5 * omega * dt / self._count, 1.0)).tolist()
        self._late = [max(0, round(m.latency / dt)) for m in spec.motors]
        self._scale = np.array([m.scale for m in spec.motors])
        trim = np.array([m.trim for m in spec.motors])
        self._trim = trim / spec.span + (1 - self._scale) * spec.rest
        self.reset(spec.rest)
        self._rest = {name: self._frame(name) for name in self.face.links}

    def reset(self, command: ArrayLike) -> Floats:
        """Stand still at `command` [shape=(n,)] as if held there for ever; returns the position."""
        at = self._checked(command, "BulletHead.reset")
        self._past: deque[Floats] = deque([at] * (max(self._late) + 1), maxlen=max(self._late) + 1)
        for j, angle in zip(self._motors, self.spec.to_radians(at).tolist()):
            pybullet.resetJointState(self._body, j, angle, 0.0, physicsClientId=self._client)
        self._carry_along()
        return self.position

    def step(self, command: ArrayLike) -> Floats:
        """Hold `command` [shape=(n,)] for one tick; returns the position at its end, in commands."""
        self._past.appendleft(self._checked(command, "BulletHead.step"))
        late = np.array([self._past[k][i] for i, k in enumerate(self._late)])
        for j, angle, force, speed, gain in zip(
            self._motors, self.spec.to_radians(late).tolist(), self._force, self._speed, self._gain
        ):
            pybullet.setJointMotorControl2(
                self._body, j, pybullet.POSITION_CONTROL, targetPosition=angle, force=force,
                maxVelocity=speed, positionGain=gain, velocityGain=1.0, physicsClientId=self._client,
            )  # fmt: skip
        for _ in range(self._count):
            pybullet.stepSimulation(physicsClientId=self._client)
        self._carry_along()
        return self.position

    @property
    def position(self) -> Floats:
        """Where what hangs on the motors stands, in commands [shape=(n,)], with `scale` and `trim`."""
        return self._scale * self.shaft + self._trim

    @property
    def shaft(self) -> Floats:
        """What the motors' own sensors say, in commands [shape=(n,)]: there is no backlash here."""
        return np.clip(self.spec.to_command([s[0] for s in self._states()]), 0.0, 1.0)

    @property
    def velocity(self) -> Floats:
        """Speed of the motors, commands/s [shape=(n,)]."""
        return np.array([s[1] for s in self._states()]) / self.spec.span

    @property
    def torque(self) -> Floats:
        """What each motor spends, N m [shape=(n,)]."""
        return np.array([s[3] for s in self._states()])

    def poses(self) -> dict[str, Floats]:
        """Where each link is, link -> float64 [shape=(4, 4)], in the body's frame; as `Kinematics.poses`."""
        out = {"body": np.eye(4)}
        for name in self.face.links:
            out[name] = self._frame(name) @ np.linalg.inv(self._rest[name])
        return out

    def close(self) -> None:
        """Free PyBullet's world; closing twice is fine."""
        self._free_client()

    def __enter__(self) -> BulletHead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _states(self) -> list[tuple]:
        if not self._free_client.alive:
            raise FaceTwinError("the head is closed", where="BulletHead", hint="make another")
        return pybullet.getJointStates(self._body, self._motors, physicsClientId=self._client)

    def _checked(self, command: ArrayLike, where: str) -> Floats:
        if not self._free_client.alive:
            raise FaceTwinError("the head is closed", where=where, hint="make another")
        c = np.array(command, dtype=np.float64)
        if c.shape != (self.spec.size,) or not np.isfinite(c).all():
            raise FaceTwinError("not a command", where=where, found=c.shape,
                                expected=f"{self.spec.size} finite numbers")  # fmt: skip
        return c

    def _carry_along(self) -> None:
        # linkages carry no load here: they stand where their motor's horn puts them
        position = self.position
        for joint, i, axis in self._follow:
            motor = self.spec.motors[i]
            if axis >= 0:
                assert motor.pull is not None
                place = motor.pull.displacement(position[i], motor.rest_command)[axis]
            else:
                assert motor.part is not None
                place = motor.part.gain * (position[i] - motor.rest_command) * motor.span
            pybullet.resetJointState(self._body, joint, float(place), 0.0, physicsClientId=self._client)

    def _frame(self, link: str) -> Floats:
        state = pybullet.getLinkState(
            self._body, self._links[link], computeForwardKinematics=1, physicsClientId=self._client
        )
        out = np.eye(4)
        out[:3, :3] = np.reshape(pybullet.getMatrixFromQuaternion(state[5]), (3, 3))
        out[:3, 3] = state[4]
        return out


class BulletTwin:
    """A face without time whose skin is PyBullet's; moves, looks and closes like `twin.FaceTwin`.

    Parameters
    ----------
    spec : RigSpec
    size : (width, height), px, optional
        Picture size; the rig file's by default.
    limit : int
        Steps of the skin after its goals were reached, at most; the skin creeps on at the next move.
    camera : str
        Which of the rig's cameras looks.
    """

    def __init__(
        self,
        spec: RigSpec,
        *,
        size: tuple[int, int] | None = None,
        limit: int = 20,
        camera: str = "mirror",
        face: Face | None = None,
    ) -> None:
        if camera not in spec.cameras:
            raise UsageError(
                "no such camera", where=spec.name, found=camera, expected="one of " + ", ".join(spec.cameras)
            )
        self.spec = spec
        self.face = face or load_face()
        self.kinematics = Kinematics(spec, self.face)
        self._limit, self._camera_spec, self._size = limit, spec.cameras[camera], size
        self._skin: BulletSkin | None = None
        self._camera: Camera | None = None
        self._lips = (
            self.face.triangles_of("upper_lip", "upper_rim"),
            self.face.triangles_of("lower_lip", "lower_rim"),
        )
        self._last: Floats | None = None

    @property
    def skin(self) -> BulletSkin:
        """The skin, built when first asked for (two seconds)."""
        if self._skin is None:
            self._skin = build_bullet_skin(self.spec, self.face, self.kinematics, limit=self._limit)
        return self._skin

    def move(self, position: ArrayLike, *, fresh: bool = False) -> State:
        """Posture for motor positions [shape=(n,)] in command units, from the last one, or from rest."""
        at = np.asarray(position, dtype=np.float64)
        if at.shape != (self.spec.size,) or not np.isfinite(at).all():
            raise FaceTwinError(
                "not a motor position", where="move()", found=at.shape,
                expected=f"{self.spec.size} finite numbers",
            )  # fmt: skip
        vertices = self.skin.solve(self.kinematics.goals(at), None if fresh else self._last)
        self._last = vertices
        gap = lip_gap(vertices, *self._lips)
        return State(at.copy(), vertices, self.kinematics.poses(at), gap, self.skin.report)

    def load(self, state: State) -> Floats:
        """Torque with which the skin resists each motor at the last posture, N m [shape=(n,)]."""
        force = np.nan_to_num(self.skin.pulls())  # of the linkages on the skin
        ways = self.kinematics.tangents(state.position)  # (n, M, 3), m per command
        return np.einsum("nma,ma->n", ways, force) / self.spec.span

    def picture(self, state: State) -> NDArray[np.uint8]:
        """What the mirror camera sees, without noise: uint8 [shape=(H, W, 3)], RGB."""
        if self._camera is None:
            self._camera = Camera(self.face, self._camera_spec, size=self._size)
        return self._camera.render(state.vertices, state.poses)

    def reset(self) -> None:
        """Forget the last posture: the next solve starts from rest, in a world of its own."""
        self._last = None
        if self._skin is not None:
            self._skin.reset()

    def close(self) -> None:
        """Free camera and world; closing twice is fine, and both come back when asked for."""
        camera, self._camera = self._camera, None
        if camera is not None:
            camera.close()
        skin, self._skin, self._last = self._skin, None, None
        if skin is not None:
            skin.close()


def build_bullet_skin(
    spec: RigSpec, face: Face, kinematics: Kinematics, *, tolerance: float = 5e-5, limit: int = 250
) -> BulletSkin:
    """The PyBullet skin of a rig: its material and its anchors."""
    m = spec.material
    return BulletSkin(
        face.rest,
        face.triangles,
        kinematics.anchored,
        kinematics.stiffness,
        Material(young=m.young, thickness=m.thickness, density=m.density),
        foundation=m.foundation * (1 - face.jaw_share),  # what the jaw carries is not held to the skull
        tolerance=tolerance,
        limit=limit,
    )


def load_urdf(text: str, client: int) -> int:
    """Load URDF text into a PyBullet world; returns the body. Raises `FaceTwinError` if it will not load."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "head.urdf"
        file.write_text(text)
        try:
            return pybullet.loadURDF(
                str(file),
                useFixedBase=True,
                flags=pybullet.URDF_USE_INERTIA_FROM_FILE,
                physicsClientId=client,
            )
        except pybullet.error as error:
            raise FaceTwinError(
                "PyBullet does not load this URDF", where="load_urdf()", found=error
            ) from None
