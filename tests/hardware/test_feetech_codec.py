"""Feetech frames: the maker's published examples, round trips, and damage of every kind."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facetwin.hardware import feetech_codec as ft
from facetwin.hardware.servo_bus import Register, Status

IDS = st.lists(st.integers(0, 253), min_size=1, max_size=80, unique=True)
PAYLOAD = st.one_of(st.binary(max_size=60), st.lists(st.sampled_from([0xFF, 1, 2]), max_size=60).map(bytes))


def hexed(text):
    return bytes.fromhex(text)


def motion(count):
    """Position 2048, time 0, speed 1000, as in the examples."""
    return np.tile(np.frombuffer(hexed("00 08 00 00 E8 03"), np.uint8), (count, 1))


# All of Feetech's "SCS communication protocol" (servo manual, chapter 4), examples 1 to 13.
GOLDEN = [
    (ft.frame(1, ft.PING), "FF FF 01 02 01 FB"),
    (ft.frame(1, ft.READ, hexed("38 02")), "FF FF 01 04 02 38 02 BE"),
    (ft.frame(ft.BROADCAST, ft.WRITE, hexed("05 01")), "FF FF FE 04 03 05 01 F4"),
    (ft.frame(1, ft.WRITE, hexed("2A 00 08 00 00 E8 03")), "FF FF 01 09 03 2A 00 08 00 00 E8 03 D5"),
    (ft.frame(10, ft.REG_WRITE, hexed("2A 00 08 00 00 E8 03")), "FF FF 0A 09 04 2A 00 08 00 00 E8 03 CB"),
    (ft.frame(ft.BROADCAST, ft.ACTION), "FF FF FE 02 05 FA"),
    (
        ft.sync_write(np.arange(1, 5, dtype=np.uint8), Register(0x2A, 6), motion(4)),
        "FF FF FE 20 83 2A 06 01 00 08 00 00 E8 03 02 00 08 00 00 E8 03 03 00 08 00 00 E8 03 04 00 08 00 00 "
        "E8 03 58",
    ),
    (ft.sync_read([1, 2], ft.STATE), "FF FF FE 06 82 38 08 01 02 36"),
    (ft.frame(1, 0x0A), "FF FF 01 02 0A F2"),  # reset
    (ft.frame(1, 0x0B, hexed("00 04")), "FF FF 01 04 0B 00 04 EB"),  # calibrate to 1024
    (ft.frame(1, 0x08), "FF FF 01 02 08 F4"),  # restart
]
GOLDEN_STATUS = [
    ("FF FF 01 02 00 FC", Status(1, 0, b"")),
    ("FF FF 01 04 00 18 05 DD", Status(1, 0, hexed("18 05"))),
    ("FF FF 0A 02 00 F3", Status(10, 0, b"")),
    ("FF FF 01 0A 00 00 08 00 00 00 00 79 1E 55", Status(1, 0, hexed("00 08 00 00 00 00 79 1E"))),
    ("FF FF 02 0A 00 FF 07 00 00 00 00 77 23 53", Status(2, 0, hexed("FF 07 00 00 00 00 77 23"))),
]


@pytest.mark.parametrize(("made", "published"), GOLDEN)
def test_published_instructions(made, published):
    assert made == hexed(published)


@pytest.mark.parametrize(("published", "meaning"), GOLDEN_STATUS)
def test_published_answers(published, meaning):
    assert ft.find_status(hexed(published)) == ([meaning], len(hexed(published)), 0)


def test_published_answer_to_a_sync_read():
    data = hexed(GOLDEN_STATUS[3][0] + GOLDEN_STATUS[4][0])
    found = ft.find_rows(data, np.array([1, 2], np.uint8), ft.STATE)
    assert found is not None
    state = np.ascontiguousarray(found[0]).view(ft.STATE_TYPE)[:, 0]
    assert state["position"].tolist() == [2048, 2047]  # as the manual reads them
    assert state["voltage"].tolist() == [121, 119]
    assert state["temperature"].tolist() == [30, 35]


def status(number, error, data):
    body = bytes([number, len(data) + 2, error]) + data
    return b"\xff\xff" + body + bytes([255 - sum(body) % 256])


STATUSES = st.lists(st.tuples(st.integers(0, 253), st.integers(0, 255), PAYLOAD), max_size=5)
NOISE = st.binary(max_size=12).filter(lambda b: b"\xff" not in b)


@given(st.integers(0, 253), st.integers(0, 255), PAYLOAD)
def test_a_frame_goes_there_and_back(number, instruction, data):
    made = ft.frame(number, instruction, data)
    assert ft.find_status(made) == ([Status(number, instruction, data)], len(made), 0)


@given(IDS, st.integers(1, 12), st.randoms(use_true_random=False))
def test_sync_writes_reach_each_servo_once_in_frames_that_servos_take(ids, size, random):
    rows = np.array([[random.randrange(256) for _ in range(size)] for _ in ids], np.uint8)
    made = ft.sync_write(np.array(ids, np.uint8), Register(42, size), rows)
    frames, rest, damage = ft.find_status(made)
    assert (rest, damage) == (len(made), 0)
    seen = []
    for one in frames:
        assert (one.id, one.error, one.data[:2]) == (ft.BROADCAST, ft.SYNC_WRITE, bytes([42, size]))
        assert len(one.data) + 6 <= ft.LONGEST
        part = np.frombuffer(one.data[2:], np.uint8).reshape(-1, size + 1)
        seen += [(int(row[0]), row[1:].tolist()) for row in part]
    assert seen == [(k, row.tolist()) for k, row in zip(ids, rows, strict=True)]


@given(IDS, st.integers(1, 20), st.randoms(use_true_random=False))
def test_answers_in_order_are_read_at_once_as_one_by_one(ids, size, random):
    parts = [(k, random.choice([0, 32]), random.randbytes(size)) for k in ids]
    data = b"".join(status(*p) for p in parts)
    asked, register = np.array(ids, np.uint8), Register(56, size)
    found = ft.find_rows(data, asked, register)
    assert found is not None
    assert [bytes(row) for row in found[0]] == [p[2] for p in parts]
    assert found[1].tolist() == [p[1] for p in parts]
    where, change = random.randrange(len(data)), random.randrange(1, 256)
    spoiled = bytearray(data)
    spoiled[where] ^= change
    assert ft.find_rows(bytes(spoiled), asked, register) is None
    assert ft.find_rows(data[:-1], asked, register) is None


@given(STATUSES, st.lists(NOISE, min_size=6, max_size=6))
def test_frames_are_found_between_noise(frames, noise):
    data, lost = noise[0], len(noise[0])
    for k, parts in enumerate(frames):
        data += status(*parts) + noise[k + 1]
        lost += len(noise[k + 1])
    found, rest, damage = ft.find_status(data, final=True)
    assert found == [Status(*parts) for parts in frames]
    assert (rest, damage) == (len(data), lost)


@given(STATUSES, st.integers(0, 300))
def test_frames_cut_anywhere_are_found_when_the_rest_has_come(frames, cut):
    data = b"".join(status(*parts) for parts in frames)
    first, rest, damage = ft.find_status(data[:cut])
    second, _, more = ft.find_status(data[:cut][rest:] + data[cut:], final=True)
    assert first + second == [Status(*parts) for parts in frames]
    assert damage == more == 0


@given(st.integers(-32767, 32767), st.integers(-1023, 1023))
def test_signs_go_there_and_back(position, load):
    assert ft.signed(ft.magnitude(np.array([position])))[0] == position
    assert ft.signed(ft.magnitude(np.array([load]), ft.LOAD_SIGN), ft.LOAD_SIGN)[0] == load


def test_what_is_too_large_for_its_bits_is_clipped():
    assert ft.magnitude(np.array([40_000, -40_000])).tolist() == [0x7FFF, 0xFFFF]


def feed(count, seed):
    """`count` random and mutated bytes through both parsers, in pieces of what is read at once."""
    random = np.random.default_rng(seed)
    good = b"".join(hexed(p) for p, _ in GOLDEN_STATUS) + b"\xff" * 7
    ids = np.array([1, 2], np.uint8)
    done = 0
    while done < count:
        if random.random() < 0.5:
            data = random.choice([0xFF, 1, 2, 4, 250], random.integers(1, 400)).astype(np.uint8).tobytes()
        else:
            part = np.frombuffer(good * 5, np.uint8).copy()[random.integers(0, 60) :]
            hits = random.integers(0, len(part), random.integers(0, 6))
            part[hits] = random.integers(0, 256, len(hits))
            data = part.tobytes()
        done += len(data)
        for final in (False, True):
            frames, rest, damage = ft.find_status(data, final)
            assert 0 <= rest <= len(data)
            assert 0 <= damage <= len(data)
            assert all(s.id <= ft.BROADCAST for s in frames)
        ft.find_rows(data[: random.integers(0, 40)], ids, ft.STATE)


def test_parsers_survive_noise():
    feed(60_000, 0)


@pytest.mark.slow
def test_parsers_survive_a_million_bytes_of_noise():
    feed(1_000_000, 1)
