"""Reinforcement learning on Mimic-v0: does SAC, starting from an inverse model, imitate better than it?

An inverse model is learned from babble first, by geometry, in a minute. Then SAC learns what to add to its
answer: it sees the command that the model would give, the one that was sent, and what the model makes of the
difference between the face wanted and the face made. Both, and feedback through the inverse model with its
gain fitted, are scored on the same 100 new goals. Needs the extra "examples".

    python examples/mimic_sb3.py --steps 12000
"""

from __future__ import annotations

import argparse
import time

import gymnasium
import numpy as np
import torch
from stable_baselines3 import SAC

import facetwin.envs  # noqa: F401  (registers the environments)
from facetwin.policies.babble import babbler
from facetwin.policies.inverse import InverseModel
from facetwin.policies.mirror import Mirror
from facetwin.twin.couplings import Couplings
from facetwin.twin.face import load_face
from facetwin.twin.geometry import GeometricLandmarks
from facetwin.twin.kinematics import Kinematics
from facetwin.twin.landmarks import indices
from facetwin.twin.skin.fast import FastSkin
from facetwin.twin.spec import load_rig

RIG = "sim:?solver=fast&renderer=fast&samples=1"
LOOKS = 4  # steps of an episode
REACH = 0.1  # how far SAC may go from the inverse model's answer, in commands
GOALS = 100
SPEC = load_rig("face26")


def babble(poses: int, seed: int) -> Mirror:
    """Poses of the mixed babbler, settled, seen by geometry."""
    face = load_face()
    head, points = Kinematics(SPEC, face), GeometricLandmarks(face)
    skin = FastSkin.load(SPEC, face, kinematics=head).only(points.skin)
    source = babbler("mixed", SPEC, np.random.default_rng(seed))
    commands = Couplings(SPEC).project(np.array([next(source) for _ in range(poses)]), *SPEC.soft_limits)
    seen = []
    for part in np.array_split(commands, poses // 200):
        with torch.no_grad():
            shapes = skin(torch.from_numpy(part)).vertices.numpy()
        seen.append(points.aligned(shapes, head.poses(part))[:, indices("face113"), :2])
    return Mirror(
        commands=commands.astype(np.float32),
        face=np.concatenate(seen),
        turn=np.zeros((poses, 3), np.float32),
        gap=np.zeros(poses, np.float32),
        found=np.ones(poses, np.bool_),
        run=np.arange(poses) // 100,
    )


class FromInverse(gymnasium.Wrapper):
    """Mimic-v0 whose action is what to add to the inverse model's command."""

    def __init__(self, env: gymnasium.Env, inverse: InverseModel) -> None:
        super().__init__(env)
        self.inverse = inverse
        n = SPEC.size
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (n,), np.float32)
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (3 * n,), np.float32)

    def reset(self, **options):
        """Begin an episode; its first look is at rest."""
        seen, info = self.env.reset(**options)
        self.base = self._command(seen["desired_goal"])
        return self._view(seen), info

    def step(self, action):
        """Send the model's command plus `REACH` times the action."""
        command = np.clip(self.base + REACH * action, 0, 1).astype(np.float32)
        seen, reward, terminated, truncated, info = self.env.step(command)
        return self._view(seen), 10 * reward, terminated, truncated, info

    def _command(self, goal):
        return self.inverse.predict(goal.reshape(1, 113, 2), np.zeros((1, 3)))[0]

    def _view(self, seen):
        missing = self.base - self._command(seen["achieved_goal"])
        return np.concatenate([self.base, seen["observation"], missing]).astype(np.float32)


def score(env, act, seed: int) -> np.ndarray:
    """Distances (u) at the end of episodes with the same `GOALS` goals."""
    out = []
    for k in range(GOALS):
        view, info = env.reset(seed=seed + k)
        added, done = np.zeros(SPEC.size, np.float32), False
        while not done:
            added = act(view, added)
            view, _, _, done, info = env.step(added)
        out.append(info["distance"])
    return np.array(out)


def main() -> None:
    """Babble, fit, learn, score."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=12_000, help="of the environment")
    parser.add_argument("--babble", type=int, default=20_000, help="poses for the inverse model")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    began = time.monotonic()
    train, check, _ = babble(options.babble, options.seed).split()
    inverse = InverseModel.fit(train, check, spec=SPEC, epochs=30, combine=0.0, seed=options.seed)
    print(f"inverse model from {len(train)} poses: {time.monotonic() - began:.0f} s")
    plain = gymnasium.make(
        "facetwin/Mimic-v0", rig=RIG, size=16, landmarks="geometry", max_episode_steps=LOOKS
    )
    env = FromInverse(plain, inverse)
    agent = SAC(
        "MlpPolicy", env, learning_starts=500, batch_size=256, gamma=0.5, learning_rate=1e-3,
        ent_coef="auto_0.02", policy_kwargs={"net_arch": [128, 128]}, seed=options.seed, device="cpu",
    )  # fmt: skip
    began = time.monotonic()
    agent.learn(options.steps, progress_bar=False)
    print(f"SAC, {options.steps} steps: {time.monotonic() - began:.0f} s")
    n, still = SPEC.size, np.zeros(SPEC.size, np.float32)

    def feedback(gain):
        def act(view, added):
            looked = not np.allclose(view[n : 2 * n], SPEC.rest)  # at rest there is nothing to correct yet
            return np.clip(added + gain / REACH * view[2 * n :], -1, 1) if looked else still

        return act

    chosen = min((0.25, 0.5, 0.75, 1.0), key=lambda g: score(env, feedback(g), 50_000).mean())
    test = 90_000
    rows = {
        "the face at rest": score(env, lambda view, _: (SPEC.rest - view[:n]) / REACH, test),
        "inverse model, once": score(env, lambda view, _: still, test),
        f"inverse model, fed back (gain {chosen})": score(env, feedback(chosen), test),
        "SAC": score(env, lambda view, _: agent.predict(view, deterministic=True)[0], test),
    }
    print(f"distance from {GOALS} new goals after {LOOKS} looks, u (113 points), mean and standard error")
    for name, found in rows.items():
        print(f"  {name:42} {found.mean():.4f} +- {found.std() / np.sqrt(len(found)):.4f}")
    start, end = rows["inverse model, once"], rows["SAC"]
    gain = start - end
    better = gain.mean() > 2 * gain.std() / np.sqrt(len(gain))
    print("SAC beats the inverse model it started from" if better else
          "SAC does not beat the inverse model it started from")  # fmt: skip
    env.close()


if __name__ == "__main__":
    main()
