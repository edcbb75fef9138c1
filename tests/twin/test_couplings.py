import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from facetwin.twin.couplings import Couplings
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.spec import BoxRule, LinearRule, load_rig

FACE26 = load_rig("face26")
EMO23 = load_rig("emo23")
BOTH = {"face26": Couplings(FACE26), "emo23": Couplings(EMO23)}
# Corners of the cube and the ends of the rules are where mistakes hide.
values = st.one_of(st.sampled_from([0.0, 0.3, 0.8, 0.85, 0.9, 1.0]), st.floats(0, 1))


@pytest.mark.parametrize("rig", BOTH)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_projection_is_allowed_idempotent_and_leaves_the_allowed_alone(rig, data):
    rules = BOTH[rig]
    command = data.draw(arrays(np.float64, rules.size, elements=values))
    out = rules.project(command)
    assert rules.violations(out) == ()
    assert rules.allowed(out)
    np.testing.assert_array_equal(rules.project(out), out)
    if not rules.violations(command):
        np.testing.assert_array_equal(out, command)
    # No single motor could have stayed where it was asked to be.
    for m in np.flatnonzero(out != command):
        back = out.copy()
        back[m] = command[m]
        assert rules.violations(back)


NAMES = ("jaw", "upper_lip_raise", "upper_lip_roll")


@st.composite
def small_rules(draw):
    grid = [i / 10 for i in range(11)]
    rules = []
    for i in range(draw(st.integers(1, 4))):
        chosen = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
        when = []
        for name in chosen:
            ends = sorted(draw(st.lists(st.sampled_from(grid), min_size=2, max_size=2, unique=True)))
            when.append((name, tuple(ends)))
        rules.append(BoxRule(f"box {i}", tuple(when)))
    if draw(st.booleans()):
        weights = tuple((n, float(draw(st.sampled_from([-1, 1, 2])))) for n in NAMES)
        at_most = draw(st.sampled_from([0.3, 0.8, 1.5]))
        rules.append(LinearRule("line", weights, at_most))
    return rules


@settings(max_examples=80, deadline=None)
@given(
    rules=small_rules(), asked=arrays(np.float64, 3, elements=st.sampled_from([i / 10 for i in range(11)]))
)
def test_projection_is_the_nearest_of_a_grid(rules, asked):
    # The grid of tenths holds every end of every box, so for boxes its nearest point is the answer.
    try:
        couplings = Couplings(FACE26.with_(couplings=rules))
    except FaceTwinError:  # rules that forbid the rest pose, or everything, are refused at load
        return
    where = [FACE26.index(n) for n in NAMES]
    command = FACE26.rest.copy()
    command[where] = asked
    grid = np.array(list(itertools.product([i / 10 for i in range(11)], repeat=3)))
    commands = np.repeat(command[None], len(grid), axis=0)
    commands[:, where] = grid
    allowed = couplings.allowed(commands)
    best = np.linalg.norm(grid[allowed] - asked, axis=1).min()
    found = couplings.project(command)
    assert couplings.violations(found) == ()
    distance = np.linalg.norm(found - command)
    assert distance <= best + 1e-9
    if all(isinstance(r, BoxRule) for r in rules):
        assert distance == pytest.approx(best, abs=1e-9)


def test_a_line_is_left_along_its_normal():
    rule = LinearRule("line", (("jaw", 1.0), ("upper_lip_roll", 1.0)), 1.0)
    couplings = Couplings(FACE26.with_(couplings=[rule]))
    command = FACE26.rest.copy()
    jaw, roll = FACE26.index("jaw"), FACE26.index("upper_lip_roll")
    command[jaw], command[roll] = 0.9, 0.7
    out = couplings.project(command)
    assert (out[jaw], out[roll]) == pytest.approx((0.6, 0.4))
    command[jaw], command[roll] = 1.0, 0.1
    out = couplings.project(command, upper=np.where(np.arange(26) == jaw, 0.95, 1.0))
    assert (out[jaw], out[roll]) == pytest.approx((0.925, 0.075))


def test_leaving_one_box_does_not_enter_another():
    rules = [
        BoxRule("a", (("jaw", (0.2, 0.6)),)),
        BoxRule("b", (("jaw", (0.5, 0.8)), ("upper_lip_roll", (0.4, 0.6)))),
    ]
    couplings = Couplings(FACE26.with_(couplings=rules))
    command = FACE26.rest.copy()
    command[FACE26.index("jaw")] = 0.55  # the cheapest way out of a leads into b
    out = couplings.project(command)
    assert couplings.violations(out) == ()
    assert out[FACE26.index("jaw")] == pytest.approx(0.6)
    assert abs(out[FACE26.index("upper_lip_roll")] - 0.5) == pytest.approx(0.1)


def test_batches_and_hopeless_limits():
    rng = np.random.default_rng(0)
    commands = rng.random((4, 5, 26))
    together = BOTH["face26"].project(commands)
    assert together.shape == commands.shape
    np.testing.assert_array_equal(together[2, 3], BOTH["face26"].project(commands[2, 3]))
    couplings = Couplings(FACE26.with_(couplings=[BoxRule("a", (("jaw", (0.5, 1.0)),))]))
    with pytest.raises(FaceTwinError, match="no allowed command"):
        couplings.project(np.ones(26), lower=np.full(26, 0.7))


def test_most_of_the_cube_is_allowed():
    commands = np.random.default_rng(0).random((4000, 26))
    lids = [rule for rule in FACE26.couplings if "lids do not cross" in rule.name]
    others = FACE26.with_(couplings=tuple(rule for rule in FACE26.couplings if rule not in lids))
    assert len(lids) == 2
    assert Couplings(others).allowed(commands).mean() > 0.7
    assert BOTH["face26"].allowed(commands).mean() > 0.5  # lids that do not cross are geometry, and cost more


@pytest.mark.parametrize("rig", BOTH)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_compiled_search_is_as_near_as_the_general_one(rig, data):
    rules = BOTH[rig]
    assert rules.packed is not None
    command = data.draw(arrays(np.float64, rules.size, elements=values))
    general = command.copy()
    if not rules.allowed(command):
        general = rules._nearest(command, np.zeros(rules.size), np.ones(rules.size))
    found = rules.project(command)
    assert np.linalg.norm(found - command) == pytest.approx(np.linalg.norm(general - command), abs=1e-9)


def test_linear_rules_that_share_motors_go_the_general_way():
    lines = [
        LinearRule("one", (("jaw", 1.0), ("upper_lip_raise", 1.0)), 1.2),
        LinearRule("two", (("jaw", 1.0), ("upper_lip_roll", 1.0)), 1.1),
    ]
    rules = Couplings(FACE26.with_(couplings=lines))
    assert rules.packed is None
    out = rules.project(np.ones(26))
    assert rules.allowed(out)
    rows = rules.project(np.stack([np.ones(26), FACE26.rest]))
    np.testing.assert_array_equal(rows[0], out)
