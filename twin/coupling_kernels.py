"""The search for the nearest allowed command, compiled: rows of commands at a few microseconds each.

Rules fall into groups that share no motor (each side's lids, the mouth), and the nearest command is found
for each group by itself. A group holds any number of forbidden boxes and at most one linear rule; rig files
with more go the general way of `facetwin.twin.couplings`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TOLERANCE = 1e-9  # how far, in commands, a linear rule may be overstepped by rounding
NODES = 20_000  # of the search, at most


@dataclass(frozen=True)
class Packed:
    """Groups of rules, one after another; `*_start[g]` is where group g begins.

    Attributes
    ----------
    motor_start, motors : int64 [shape=(G + 1,)], [shape=(M,)]
        Which motors a group ties together.
    weights, at_most : float64 [shape=(M,)], [shape=(G,)]
        Its linear rule, of unit length; `at_most` is inf where it has none.
    box_start, entry_start : int64 [shape=(G + 1,)], [shape=(B + 1,)]
    entries : int64 [shape=(E,)], place of a box's motor among the group's
    ends : float64 [shape=(E, 2)], open interval that is forbidden, -inf and inf at the ends of the range
    """

    motor_start: Ints
    motors: Ints
    weights: Floats
    at_most: Floats
    box_start: Ints
    entry_start: Ints
    entries: Ints
    ends: Floats

    @property
    def arrays(self) -> tuple[Ints, Ints, Floats, Floats, Ints, Ints, Ints, Floats]:
        """All of them, in the order that the kernels take."""
        return (self.motor_start, self.motors, self.weights, self.at_most,
                self.box_start, self.entry_start, self.entries, self.ends)  # fmt: skip


def pack(
    boxes: list[tuple[Ints, Floats, Floats]], lines: list[tuple[Floats, float]], size: int
) -> Packed | None:
    """Groups of boxes (motors, low, high) and lines (weights [shape=(n,)], at most); None where two lines
    share a group."""
    touched = [set(map(int, m)) for m, _, _ in boxes] + [set(map(int, np.flatnonzero(w))) for w, _ in lines]
    groups: list[set[int]] = []
    for one in touched:
        joined = set(one).union(*[g for g in groups if g & one])
        groups = [g for g in groups if not g & one] + [joined]
    groups.sort(key=min)
    motor_start, box_start, entry_start = [0], [0], [0]
    motors: list[int] = []
    weights: list[float] = []
    at_most: list[float] = []
    entries: list[int] = []
    ends: list[tuple[float, float]] = []
    for group in groups:
        members = sorted(group)
        mine = [(w, b) for w, b in lines if set(map(int, np.flatnonzero(w))) & group]
        if len(mine) > 1:
            return None
        motors += members
        weights += list(mine[0][0][members]) if mine else [0.0] * len(members)
        at_most.append(mine[0][1] if mine else np.inf)
        motor_start.append(len(motors))
        for m, low, high in boxes:
            if set(map(int, m)) & group:
                entries += [members.index(int(i)) for i in m]
                ends += list(zip(low, high))
                entry_start.append(len(entries))
        box_start.append(len(entry_start) - 1)
    whole = [np.array(a, np.int64) for a in (motor_start, motors, box_start, entry_start, entries)]
    return Packed(
        whole[0], whole[1], np.array(weights), np.array(at_most), whole[2], whole[3], whole[4],
        np.array(ends, np.float64).reshape(-1, 2),
    )  # fmt: skip


@njit(cache=True)
def is_allowed(c, group, rules):
    """Whether a command obeys the rules of one group."""
    motor_start, motors, weights, at_most, box_start, entry_start, entries, ends = rules
    first, last = motor_start[group], motor_start[group + 1]
    if at_most[group] < np.inf:
        total = 0.0
        for k in range(first, last):
            total += weights[k] * c[motors[k]]
        if not total <= at_most[group] + TOLERANCE:
            return False
    for box in range(box_start[group], box_start[group + 1]):
        inside = True
        for e in range(entry_start[box], entry_start[box + 1]):
            value = c[motors[first + entries[e]]]
            if not ends[e, 0] < value < ends[e, 1]:
                inside = False
                break
        if inside:
            return False
    return True


@njit(cache=True)
def onto(c, low, high, weights, at_most, x):
    """Nearest point ``x`` to ``c`` within limits and one linear rule, all [shape=(d,)]; False if none is."""
    d = c.shape[0]
    total = 0.0
    for i in range(d):
        x[i] = min(max(c[i], low[i]), high[i])
        total += weights[i] * x[i]
    if total <= at_most + TOLERANCE:
        return True
    # x(t) = clip(c - t w): its rule falls in straight pieces as t grows; walk them
    t = 0.0
    while True:
        slope, ahead = 0.0, np.inf
        for i in range(d):
            w = weights[i]
            if w == 0:
                continue
            to_low, to_high = (c[i] - low[i]) / w, (c[i] - high[i]) / w
            enter, leave = min(to_low, to_high), max(to_low, to_high)
            if leave <= t:
                continue
            if enter <= t:
                slope += w * w
                ahead = min(ahead, leave)
            else:
                ahead = min(ahead, enter)
        if slope > 0 and total - at_most <= slope * (ahead - t):
            t += (total - at_most) / slope
            break
        if ahead == np.inf:
            return False
        total -= slope * (ahead - t)
        t = ahead
    total = 0.0
    for i in range(d):
        x[i] = min(max(c[i] - t * weights[i], low[i]), high[i])
        total += weights[i] * x[i]
    return total <= at_most + TOLERANCE


@njit(cache=True)
def nearest(c, low, high, group, rules):
    """Move a command to the nearest that one group allows, in place; False where there is none.

    Best first: the distance of a node bounds that of all its children from below, so the first point taken
    up that is in no box is nearest. Equal distances: the rule and face that come first in the file.
    """
    motor_start, motors, weights, at_most, box_start, entry_start, entries, ends = rules
    first, last = motor_start[group], motor_start[group + 1]
    d = last - first
    w = weights[first:last]
    own = np.empty(d)
    size = 16
    lows, highs, points = np.empty((size, d)), np.empty((size, d)), np.empty((size, d))
    costs = np.empty(size)
    for i in range(d):
        own[i] = c[motors[first + i]]
        lows[0, i], highs[0, i] = low[motors[first + i]], high[motors[first + i]]
    used = 0
    if onto(own, lows[0], highs[0], w, at_most[group], points[0]):
        costs[0] = ((points[0] - own) ** 2).sum()
        used = 1
    for _ in range(NODES):
        best = -1
        for n in range(used):
            if costs[n] < np.inf and (best < 0 or costs[n] < costs[best]):
                best = n
        if best < 0:
            return False
        costs[best] = np.inf
        broken = -1
        for box in range(box_start[group], box_start[group + 1]):
            inside = True
            for e in range(entry_start[box], entry_start[box + 1]):
                if not ends[e, 0] < points[best, entries[e]] < ends[e, 1]:
                    inside = False
                    break
            if inside:
                broken = box
                break
        if broken < 0:
            for i in range(d):
                c[motors[first + i]] = points[best, i]
            return True
        for e in range(entry_start[broken], entry_start[broken + 1]):
            m = entries[e]
            for side in range(2):
                value = ends[e, side]
                if not lows[best, m] <= value <= highs[best, m]:
                    continue
                if used == size:
                    size *= 2
                    more = np.empty((size, d))
                    more[:used] = lows
                    lows = more
                    more = np.empty((size, d))
                    more[:used] = highs
                    highs = more
                    more = np.empty((size, d))
                    more[:used] = points
                    points = more
                    grown = np.empty(size)
                    grown[:used] = costs
                    costs = grown
                lows[used], highs[used] = lows[best], highs[best]
                if side == 0:
                    highs[used, m] = value
                else:
                    lows[used, m] = value
                if onto(own, lows[used], highs[used], w, at_most[group], points[used]):
                    costs[used] = ((points[used] - own) ** 2).sum()
                    used += 1
    return False


@njit(cache=True)
def project_one(c, low, high, rules):
    """Move one command [shape=(n,)], within its limits, to the nearest allowed; False if none is."""
    for group in range(rules[0].shape[0] - 1):
        if not is_allowed(c, group, rules) and not nearest(c, low, high, group, rules):
            return False
    return True


@njit(cache=True)
def project_rows(commands, low, high, rules):
    """Move commands [shape=(B, n)] to the nearest allowed; the first row without one, or -1."""
    for row in range(commands.shape[0]):
        if not project_one(commands[row], low, high, rules):
            return row
    return -1


@njit(cache=True)
def allowed_rows(commands, rules, out):
    """Whether each command [shape=(B, n)] obeys all rules, into ``out`` [shape=(B,)]."""
    for row in range(commands.shape[0]):
        out[row] = True
        for group in range(rules[0].shape[0] - 1):
            out[row] &= is_allowed(commands[row], group, rules)
