import numpy as np
import pytest
from fakes import FakeTwin

from facetwin.hardware.bullet import BulletRig
from facetwin.hardware.check import RULES, check_rig
from facetwin.hardware.safety import SafetyLayer
from facetwin.twin.bullet import BulletHead, BulletTwin
from facetwin.twin.spec import load_rig

pytestmark = pytest.mark.sim
FACE = load_rig("face26")


def fake_rig(spec=FACE, **options):
    return BulletRig(spec, twin=FakeTwin(spec), size=(24, 16), **options)


def test_it_keeps_the_contract():
    report = check_rig(SafetyLayer(fake_rig()))
    assert set(report.passed) | set(report.skipped) == set(RULES)


def test_its_motors_are_pybullets_and_repeat_themselves():
    seen = []
    for _ in range(2):
        rig = fake_rig()
        assert isinstance(rig._bank, BulletHead)
        with SafetyLayer(rig) as safe:
            safe.activate()
            rows = []
            for seed in range(4):
                safe.write(np.random.default_rng(seed).random(26))
                safe.clock.sleep(0.1)
                rows.append(safe.read().measured)
            seen.append(np.array(rows))
    assert np.array_equal(*seen)
    assert np.ptp(seen[0], axis=0).max() > 0.1


@pytest.mark.slow
def test_it_shows_pybullets_skin():
    with SafetyLayer(BulletRig("face26", size=64)) as rig:
        rig.activate()
        command = FACE.rest.copy()
        command[FACE.index("jaw")] = 0.7
        for _ in range(5):
            rig.write(command)
            rig.clock.sleep(0.1)
        frame = rig.capture()
        assert isinstance(rig.inner._twin, BulletTwin)
        assert frame.image.shape == (64, 64, 3)
        assert frame.truth["gap_mm"] > 5
