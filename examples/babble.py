"""Babble before the mirror: twenty random poses, and what they look like."""

import gymnasium

import facetwin.envs  # noqa: F401  (registers the environments)

env = gymnasium.make("facetwin/MirrorBabble-v0", rig="sim:?solver=linear", size=128, max_episode_steps=20)
seen, info = env.reset(seed=0)
env.action_space.seed(0)
done = False
while not done:
    seen, reward, terminated, done, info = env.step(env.action_space.sample())
    lips = seen["landmarks"][13, 1] - seen["landmarks"][14, 1]
    print(
        f"opening {lips:.3f} u, gap {info['gap_mm']:.1f} mm, changed by: {', '.join(info['safety']) or '-'}"
    )
env.close()
