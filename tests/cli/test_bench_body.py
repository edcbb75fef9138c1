"""Promises of the minute before the mirror: played once, kept, and told to the transformer."""

from contextlib import ExitStack

import numpy as np
import pytest

from facetwin.cli.bench_body import look_in_mirror
from facetwin.cli.bench_contest import shipped_vae
from facetwin.hardware.safety import SafetyLayer
from facetwin.hardware.sim import SimRig
from facetwin.policies.vae import Vae
from facetwin.twin.spec import load_rig


@pytest.mark.slow
def test_a_body_that_is_late_is_told_earlier(tmp_path):
    spec = load_rig()
    body = spec.with_({"servo.latency.factor": 2.0, "servo.max_speed.factor": 0.8, "motor.jaw.scale": 1.05})
    vae = Vae.load(shipped_vae(spec))
    spoken = np.repeat(spec.rest[None].astype(np.float32), 10, 0)
    with ExitStack() as stack:
        rig = stack.enter_context(SafetyLayer(SimRig(spec, body=body, solver="fast", renderer="fast")))
        rig.activate()
        before = rig.clock.now()
        known = look_in_mirror(rig, spoken, vae, "geometry", tmp_path, pictures=300)
        played = rig.clock.now()
        again = look_in_mirror(rig, spoken, vae, "geometry", tmp_path, pictures=300)
        assert rig.clock.now() == played > before + 12  # the second time it is read
    late = [m.latency / n.latency for m, n in zip(known.timing.motors, spec.motors)]
    assert 1.2 < np.median(late) < 2.9
    assert known.known.left[1] < known.known.left[0]
    assert again.known.told() == known.known.told()
    assert {p.name for p in tmp_path.iterdir()} == {"minute-rig.safetensors", "minute-twin.safetensors"}
    assert known.controller().name == "transformer (latents), acquainted"
