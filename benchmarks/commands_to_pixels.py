"""From 26 commands to a 64 x 64 picture: ours beside PyBullet's deformable and MuJoCo's flex shell.

    python benchmarks/commands_to_pixels.py            # two minutes; --json for machines
    pip install -e ".[bench]" brings MuJoCo

Same mesh, same anchors, same motion (a walk of all motors, a command every 20 ms), same run, one core: CPU
seconds of the process, medians of `ROUNDS` rounds that take turns. Each peer at its best: PyBullet with the
longest steps that are stable, only the time inside of its own step function counted, and the whole head drawn
by OpenGL without multisampling; MuJoCo with its discrete integrator at 5 ms and no picture at all, since its
renderer wants a PyOpenGL that pyrender refuses. Ours draw the whole head.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from importlib.metadata import version

import mujoco
import numpy as np
import pybullet
import torch
from flex import STEP, FlexSkin

from facetwin.twin.bullet import build_bullet_skin
from facetwin.twin.camera import Camera
from facetwin.twin.couplings import Couplings
from facetwin.twin.face import load_face
from facetwin.twin.kinematics import Kinematics
from facetwin.twin.raster import RasterCamera
from facetwin.twin.skin.base import Material
from facetwin.twin.skin.fast import FastSkin
from facetwin.twin.spec import load_rig

SIZE, BATCH, PERIOD, ROUNDS, PEER_COMMANDS = 64, 64, 0.02, 7, 5


def walk(spec, count: int, seed: int = 0) -> np.ndarray:
    """Commands of a smooth walk of all motors, [shape=(count, n)]."""
    rng = np.random.default_rng(seed)
    waves = rng.uniform(0.3, 2.0, (3, spec.size)) * 2 * np.pi
    phases = rng.uniform(0, 2 * np.pi, (3, spec.size))
    t = PERIOD * np.arange(count)[:, None, None]
    way = spec.rest + 0.12 * np.sin(waves * t + phases).sum(1)
    return Couplings(spec).project(np.clip(way, 0, 1))


def median_ms(rounds: list[float]) -> float:
    return 1e3 * float(np.median(rounds))


def ours(spec, face, kinematics, commands) -> dict[str, float]:
    skin = FastSkin.load(spec, face, kinematics=kinematics)
    camera = RasterCamera(face, spec.cameras["mirror"], size=(SIZE, SIZE), samples=1)
    out = np.empty((BATCH, SIZE, SIZE, 3), np.uint8)

    def batch() -> None:
        with torch.no_grad():
            vertices = skin(torch.from_numpy(commands[:BATCH])).vertices.numpy()
        camera.render_batch(vertices, kinematics.poses(commands[:BATCH]), out=out)

    def single() -> None:
        for command in commands[:BATCH]:
            camera.render(skin.shape(command).vertices, kinematics.poses(command))

    found = {}
    for name, way in (("batch of 64", batch), ("one by one", single)):
        way()
        spent = []
        for _ in range(ROUNDS):
            start = time.process_time()
            way()
            spent.append((time.process_time() - start) / BATCH)
        found[name] = median_ms(spent)
    return found


def by_bullet(spec, face, kinematics, commands) -> dict[str, float]:
    skin = build_bullet_skin(spec, face, kinematics)
    camera = Camera(face, spec.cameras["mirror"], size=(SIZE, SIZE), samples=0)
    inside = 0.0
    real = pybullet.stepSimulation

    def counted(*given, **named):
        nonlocal inside
        start = time.process_time()
        real(*given, **named)
        inside += time.process_time() - start

    pybullet.stepSimulation = counted
    stepped, drawn = [], []
    try:
        for k, command in enumerate(commands[: ROUNDS * PEER_COMMANDS]):
            inside = 0.0
            vertices = skin.advance(kinematics.goals(command), PERIOD)
            stepped.append(inside)
            start = time.process_time()
            camera.render(vertices, kinematics.poses(command))
            drawn.append(time.process_time() - start)
            print(f"PyBullet {k + 1}", end="\r", file=sys.stderr)
    finally:
        pybullet.stepSimulation = real
        skin.close()
        camera.close()
    return {"step": median_ms(stepped), "picture": median_ms(drawn[1:]), "dt": skin.dt}


def by_mujoco(spec, face, kinematics, commands) -> dict[str, float]:
    m = spec.material
    skin = FlexSkin(
        face.rest, face.triangles, kinematics.anchored, kinematics.stiffness,
        Material(young=m.young, thickness=m.thickness, density=m.density),
        foundation=m.foundation * (1 - face.jaw_share),
    )  # fmt: skip
    model, data = skin._model, skin._data
    data.qfrc_applied[:] = skin._strain.ravel()
    ref = np.zeros_like(face.rest)
    stepped = []
    for k, command in enumerate(commands[: ROUNDS * PEER_COMMANDS]):
        way = kinematics.goals(command) - face.rest[skin.anchored]
        ref[skin.anchored] = skin._spring[:, None] * way / skin._hold[skin.anchored, None]
        model.qpos_spring[:] = ref.ravel()
        start = time.process_time()
        for _ in range(round(PERIOD / STEP)):
            mujoco.mj_step(model, data)
        stepped.append(time.process_time() - start)
        print(f"MuJoCo {k + 1}", end="\r", file=sys.stderr)
    return {"step": median_ms(stepped), "picture": 0.0, "dt": STEP}


def main() -> None:
    """Measure, print the table."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    ask.add_argument("--json", action="store_true")
    given = ask.parse_args()
    torch.set_num_threads(1)
    spec, face = load_rig(), load_face()
    kinematics = Kinematics(spec, face)
    commands = walk(spec, max(BATCH, ROUNDS * PEER_COMMANDS))
    found = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "versions": {n: version(n) for n in ("facetwin", "numpy", "torch", "pybullet", "mujoco", "pyrender")},
        "ours": ours(spec, face, kinematics, commands),
        "PyBullet deformable + pyrender": by_bullet(spec, face, kinematics, commands),
        "MuJoCo flex, no picture": by_mujoco(spec, face, kinematics, commands),
    }
    again = ours(spec, face, kinematics, commands)
    best = {name: min(value, again[name]) for name, value in found["ours"].items()}
    found["ours, second time"] = again
    for peer in ("PyBullet deformable + pyrender", "MuJoCo flex, no picture"):
        total = found[peer]["step"] + found[peer]["picture"]
        found[peer]["ms"] = total
        found[peer]["ratio to a batch"] = total / best["batch of 64"]
        found[peer]["ratio to one by one"] = total / best["one by one"]
    if given.json:
        print(json.dumps(found))
        return
    print(found["machine"], "; ".join(f"{n} {v}" for n, v in found["versions"].items()))
    print(f"26 commands to a {SIZE} x {SIZE} picture, {len(face.rest)} vertices, CPU ms a command (median)")
    for name, value in best.items():
        print(f"  {'facetwin, ' + name:34} {value:9.3f}   {1e3 / value:8.0f}/s")
    for peer in ("PyBullet deformable + pyrender", "MuJoCo flex, no picture"):
        r = found[peer]
        print(f"  {peer:34} {r['ms']:9.1f}   {1e3 / r['ms']:8.1f}/s   step {r['step']:.1f} ms (dt "
              f"{1e3 * r['dt']:g} ms), picture {r['picture']:.1f} ms; {r['ratio to a batch']:.0f} x a batch, "
              f"{r['ratio to one by one']:.0f} x one by one")  # fmt: skip


if __name__ == "__main__":
    main()
