"""The tracker in another process: order, failure, death."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

from facetwin.cli.watcher import Watcher
from facetwin.twin.errors import FaceTwinError


def test_answers_come_in_order_and_failures_in_one_line():
    with Watcher() as watcher:
        for _ in range(20):  # more than may wait
            watcher.put(np.zeros((32, 32, 3), np.uint8))
        early = list(watcher.ready())
        assert early + list(watcher.finish()) == [None] * 20
        watcher.put(np.zeros((32, 32), np.uint8))
        with pytest.raises(FaceTwinError, match="not a picture"):
            list(watcher.finish())
    watcher.close()


def test_a_dead_tracker_is_noticed():
    with Watcher() as watcher:
        watcher.put(np.zeros((32, 32, 3), np.uint8))
        list(watcher.finish())
        os.kill(watcher._process.pid, signal.SIGKILL)
        watcher.put(np.zeros((32, 32, 3), np.uint8))
        with pytest.raises(FaceTwinError, match="has died"):
            list(watcher.finish())
