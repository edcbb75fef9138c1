"""The firmware, compiled for this machine and fed with bytes: golden frames, the driver's own, noise."""

from __future__ import annotations

import ctypes
import shutil
import subprocess

import numpy as np
import pytest
from firmware_host import GCC, HERE, SOURCE, Controller, build, load_library
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_maestro import long_division

from facetwin.hardware import maestro_codec as codec
from facetwin.hardware import pca9685

pytestmark = pytest.mark.skipif(GCC is None, reason="no g++: apt-get install g++")
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    return load_library(tmp_path_factory.mktemp("firmware"))


@pytest.fixture(params=[False, True], ids=["plain", "crc"])
def crc(request):
    return request.param


@pytest.fixture
def controller(library, crc):
    return Controller(library, crc)


def test_golden_frames(library):
    # Pololu Maestro Servo Controller User's Guide, sections 5.c and 5.e
    c = Controller(library)
    c.say(bytes.fromhex("84 02 70 2e"))
    assert c.target(0, 2) == 6000
    c.say(bytes.fromhex("aa 0c 04 00 70 2e"))
    assert c.target(0, 0) == 6000
    c.say(bytes.fromhex("9f 02 03 00 00 70 2e"))
    assert (c.target(0, 3), c.target(0, 4)) == (0, 6000)
    assert c.say(bytes.fromhex("90 02")) == (6000).to_bytes(2, "little")
    assert c.say(bytes.fromhex("aa 0d 21")) == b"\0\0"
    assert c.errors(0) == 0


def test_golden_crc(library):
    # section 5.d: 83 01 has CRC 17. Not a command of ours: a right CRC is a protocol error, not one of CRC
    c = Controller(library, crc=True)
    c.say(bytes.fromhex("83 01 17"))
    assert c.errors(0) == 16
    c.say(bytes.fromhex("a1 00"))
    assert c.errors(0) == 24


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_it_does_what_the_driver_says(library, data):
    crc = data.draw(st.booleans())
    c = Controller(library, crc)
    for _ in range(5):
        board = data.draw(st.integers(0, 1))
        first = data.draw(st.integers(0, 15))
        targets = data.draw(st.lists(st.integers(0, 16383), min_size=1, max_size=16 - first))
        c.say(codec.set_targets(first, targets, device=12 + board, crc=crc))
        assert [c.target(board, first + i) for i in range(len(targets))] == targets
        channel, target = data.draw(st.integers(0, 15)), data.draw(st.integers(0, 16383))
        c.say(codec.set_target(channel, target, device=12 + board, crc=crc))
        answer = c.say(codec.get_position(channel, device=12 + board, crc=crc))
        assert codec.number(answer) == target
    assert c.say(codec.get_errors(device=12, crc=crc)) == b"\0\0"
    assert c.say(codec.get_errors(device=13, crc=crc)) == b"\0\0"


def test_identity(controller, crc):
    answer = controller.say(pca9685.get_identity(crc=crc))
    assert pca9685.identity(answer) == pca9685.Identity(*pca9685.FIRMWARE, 2, 16, crc)
    assert long_division(answer[:7]) == answer[7]
    for i in range(64):
        broken = bytearray(answer)
        broken[i // 8] ^= 1 << i % 8
        assert pca9685.identity(bytes(broken)) is None


def test_errors_are_told_once(controller, crc):
    controller.say(b"\x84\x01" + codec.get_errors(device=12, crc=crc))  # the first never ended
    assert controller.say(codec.get_errors(device=12, crc=crc)) == b"\0\0"
    controller.say(codec.set_target(16, 6000, device=13, crc=crc))  # no such channel
    assert codec.number(controller.say(codec.get_errors(device=13, crc=crc))) == 16
    assert controller.say(codec.get_errors(device=13, crc=crc)) == b"\0\0"
    assert controller.say(codec.get_position(16, device=12, crc=crc)) == b""


def test_a_damaged_command_is_not_obeyed(library):
    c = Controller(library, crc=True)
    frame = codec.set_target(3, 6000, device=12, crc=True)
    for i in range(8, 8 * len(frame)):
        if i % 8 == 7:
            continue  # the top bit makes it another command
        hit = bytearray(frame)
        hit[i // 8] ^= 1 << i % 8
        c.say(bytes(hit))
        assert c.target(0, 3) == 0
        assert c.target(1, 3) == 0


def test_others_on_the_line_are_left_alone(controller, crc):
    for device in (0, 11, 14, 125, 127):
        assert controller.say(codec.set_target(0, 6000, device=device, crc=crc)) == b""
        assert controller.say(codec.get_errors(device=device, crc=crc)) == b""
    assert [controller.target(b, 0) for b in (0, 1)] == [0, 0]
    assert [controller.errors(b) for b in (0, 1)] == [0, 0]


def test_outputs_are_off_after_silence(library):
    c = Controller(library)
    c.say(pca9685.set_watchdog(500))
    c.say(codec.set_target(5, 6000, device=13))
    c.now = 500
    assert not c.watch(500)
    assert c.watch(501)
    assert c.target(1, 5) == 0
    assert c.counts(1, 5, 20000) == 0
    assert codec.named(codec.number(c.say(codec.get_errors(device=13)))) == codec.named(32)
    c.say(codec.set_target(5, 6000, device=13))  # fed at 500
    assert not c.watch(1000)
    for now in range(1000, 3000, 400):  # any command keeps it quiet
        c.now = now
        c.say(codec.get_errors(device=12))
        assert not c.watch(now + 400)
    c.say(b"\x84\x01\x80")  # noise does not
    assert c.watch(4000)
    c.say(pca9685.set_watchdog(0))
    c.say(codec.set_target(5, 6000, device=13))
    assert not c.watch(100_000)


@given(st.integers(0, 16383))
@settings(deadline=None)
def test_pulses_are_counted_in_4096ths(library, pulse):
    c = Controller(library)
    c.say(codec.set_target(0, pulse, device=12))
    counts = c.counts(0, 0, 20000)
    assert counts == int(np.floor(pulse * 4096 / 80000 + 0.5))
    assert abs(counts * 20000 / 4096 - pulse / 4) <= 20000 / 4096 / 2


@given(
    st.integers(256, 13120), st.lists(st.integers(256, 13120), min_size=1, max_size=4),
    st.integers(0, 400), st.integers(0, 255),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_speed_and_acceleration_are_kept(library, start, targets, speed, acceleration):
    """Units of the guide: 0.25 us per 10 ms, and that per 80 ms."""
    c = Controller(library)
    for frame in (
        codec.set_target(0, start),
        codec.set_speed(0, speed),
        codec.set_acceleration(0, acceleration),
    ):
        c.say(frame)
    assert c.position(0, 0) == start  # where it stood nobody knew: at once
    place, step = start, 0
    for target in targets:
        c.say(codec.set_target(0, target))
        if not speed and not acceleration:
            assert c.position(0, 0) == target
            continue
        moving = b"\1"
        for _ in range(60_000):
            c.tick()
            now = c.position(0, 0)
            if speed:
                assert abs(now - place) <= speed + 1
            if acceleration and abs(now - place) > abs(step) and (now - place) * step >= 0:
                assert abs(now - place) - abs(step) <= acceleration / 8 + 2
            assert min(place, target) <= now <= max(place, target) or step * (target - place) < 0
            place, step = now, now - place
            moving = c.say(codec.get_moving_state())
            if moving == b"\0":
                break
        assert place == target
        assert moving == b"\0"


def sanitized(tmp_path, size, seed):
    program = build("fuzz.cpp", tmp_path / "fuzz", "-O1", "-g", *SANITIZERS)
    # the run under test inherits no LD_PRELOAD: the sanitizer wants to come first
    return subprocess.run(
        [program, str(size), str(seed)], capture_output=True, text=True, timeout=300, env={}
    )


def test_a_million_bytes_of_noise(tmp_path):
    done = sanitized(tmp_path, 1_000_000, 1)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10_000


def test_the_fuzzer_sees_a_parser_that_does_not_come_back(tmp_path):
    text = (SOURCE / "facetwin_protocol.h").read_text()
    broken = text.replace("if (byte & 0x80) {  //", "if (byte & 0x80 && !length_) {  //")
    assert broken != text
    (tmp_path / "facetwin_protocol.h").write_text(broken)
    shutil.copy(HERE / "fuzz.cpp", tmp_path)
    command = [GCC, "-std=c++11", "-O1", str(tmp_path / "fuzz.cpp"), "-o", str(tmp_path / "broken")]
    subprocess.run(command, check=True, timeout=120)
    done = subprocess.run([tmp_path / "broken", "100000", "1"], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0


# --- the whole sketch, with two chips made of registers ------------------------------------------------


@pytest.fixture(scope="session")
def built_sketch(tmp_path_factory):
    out = tmp_path_factory.mktemp("sketch") / "sketch.so"
    return build("sketch.cpp", out, "-O1", "-shared", "-fPIC", "-I", str(HERE / "arduino"))


@pytest.fixture
def sketch(built_sketch, tmp_path):
    # its state is in globals: another file is another sketch
    lib = ctypes.CDLL(str(shutil.copy(built_sketch, tmp_path)))
    lib.sketch_answer.restype = ctypes.c_size_t
    lib.sketch_transfers.restype = ctypes.c_ulong
    return lib


def say(sketch, data, ms=60):
    sketch.sketch_receive(bytes(data), len(data))
    sketch.sketch_run(ms)
    out = ctypes.create_string_buffer(256)
    size = sketch.sketch_answer(out, 256)
    return out.raw[:size]


def off_counts(sketch, address, channel):
    low, high = (sketch.sketch_register(address, 6 + 4 * channel + k) for k in (2, 3))
    return None if high & 0x10 else low | (high & 0x0F) << 8


def test_chips_are_told(sketch):
    for address in (0x41, 0x42):
        sketch.sketch_chip(address, 1)
    sketch.sketch_setup()
    for address in (0x41, 0x42):
        assert sketch.sketch_register(address, 0xFE) == 121  # data sheet 7.3.5: round(25e6 / (4096 x 50)) - 1
        assert not sketch.sketch_wrong_prescale(address)
        assert [off_counts(sketch, address, c) for c in range(16)] == [None] * 16
    pulses = [2000 + 500 * c for c in range(16)]
    say(sketch, codec.set_targets(0, pulses, device=13))
    period = 4096 * 122 / 25  # us, as the prescaler really makes it
    for c in range(16):
        assert off_counts(sketch, 0x42, c) == pytest.approx(pulses[c] / 4 * 4096 / period, abs=0.51)
    assert [off_counts(sketch, 0x41, c) for c in range(16)] == [None] * 16
    assert sketch.sketch_longest() <= 32  # the I2C buffer of small boards
    before = sketch.sketch_transfers()
    assert say(sketch, codec.get_errors(device=12), 100) == b"\0\0"
    assert sketch.sketch_transfers() - before <= 2 * 5  # nothing new: each chip is asked how it is at 50 Hz
    say(sketch, codec.set_targets(0, [0] * 16, device=13))
    assert [off_counts(sketch, 0x42, c) for c in range(16)] == [None] * 16


def test_a_chip_that_was_away(sketch):
    sketch.sketch_chip(0x41, 1)
    sketch.sketch_setup()
    silent = codec.named(1 << 9)
    assert codec.named(codec.number(say(sketch, codec.get_errors(device=13)))) == silent
    say(sketch, codec.set_target(0, 6000, device=12))
    sketch.sketch_chip(0x41, 0)
    say(sketch, codec.set_target(0, 7000, device=12))
    assert codec.named(codec.number(say(sketch, codec.get_errors(device=12)))) == silent
    sketch.sketch_chip(0x41, 1)
    say(sketch, codec.get_errors(device=12))
    assert off_counts(sketch, 0x41, 0) == pytest.approx(1750 * 4096 / (4096 * 122 / 25), abs=0.51)
    sketch.sketch_chip(0x41, 0)
    sketch.sketch_chip(0x41, 1)  # a dip between two transfers, that none of them saw
    say(sketch, b"")
    assert off_counts(sketch, 0x41, 0) == pytest.approx(1750 * 4096 / (4096 * 122 / 25), abs=0.51)
    assert codec.named(codec.number(say(sketch, codec.get_errors(device=12)))) == silent


def test_the_sketch_goes_quiet_by_itself(sketch):
    for address in (0x41, 0x42):
        sketch.sketch_chip(address, 1)
    sketch.sketch_setup()
    say(sketch, pca9685.set_watchdog(300) + codec.set_target(0, 6000, device=12))
    assert off_counts(sketch, 0x41, 0)
    sketch.sketch_run(400)
    assert off_counts(sketch, 0x41, 0) is None
