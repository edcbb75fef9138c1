"""How fast a batch of environments steps, beside the same environments one by one.

    python benchmarks/vector_env.py            # a minute; --json for machines

64 x 64 pictures and landmarks, random commands, half a second of the rig's time a step. Wall time, medians of
`ROUNDS` rounds; one round is ten steps. The single environment is the same face (fast skin, fast renderer,
landmarks by geometry), so the ratio says what batching brings.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time

import gymnasium
import numpy as np
import torch

import facetwin.envs  # noqa: F401

ROUNDS, STEPS, SIZE = 9, 10, 64
NAME = "facetwin/MirrorBabble-v0"


def timed(step, rounds: int = ROUNDS) -> tuple[float, float, float]:
    """Median, least and most wall time of a round of `STEPS` steps, s."""
    spent = []
    for k in range(rounds + 1):
        start = time.perf_counter()
        for _ in range(STEPS):
            step()
        if k:  # the first warms up
            spent.append(time.perf_counter() - start)
    return float(np.median(spent)), min(spent), max(spent)


def main() -> None:
    """Measure, print the table."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    ask.add_argument("--json", action="store_true")
    ask.add_argument("--num-envs", type=int, default=64)
    given = ask.parse_args()
    torch.set_num_threads(1)
    count = given.num_envs
    many = gymnasium.make_vec(NAME, num_envs=count, vectorization_mode="vector_entry_point", size=SIZE)
    many.reset(seed=0)
    actions = np.random.default_rng(0).uniform(size=(16, count, 26)).astype(np.float32)
    turn = iter(range(10**9))
    batch = timed(lambda: many.step(actions[next(turn) % 16]))
    many.close()
    one = gymnasium.make(
        NAME, rig="sim:?solver=fast&renderer=fast&samples=1", size=SIZE, landmarks="geometry",
        max_episode_steps=10**6,
    )  # fmt: skip
    one.reset(seed=0)
    single = timed(lambda: one.step(actions[next(turn) % 16, 0]), 3)
    one.close()
    rate, alone = count * STEPS / batch[0], STEPS / single[0]
    found = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "num_envs": count,
        "steps_per_s": rate,
        "slowest_and_fastest_round": [count * STEPS / batch[2], count * STEPS / batch[1]],
        "single_steps_per_s": alone,
        "ratio": rate / alone,
    }
    if given.json:
        print(json.dumps(found))
        return
    low, high = found["slowest_and_fastest_round"]
    print(found["machine"])
    print(f"batch of {count}: {rate:.0f} steps/s (rounds {low:.0f} to {high:.0f})")
    print(f"one environment: {alone:.0f} steps/s; the batch is {rate / alone:.0f} x as fast")


if __name__ == "__main__":
    main()
