"""The firmware's protocol, compiled for this machine."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent / "firmware"
SOURCE = Path(__file__).resolve().parents[2] / "hardware" / "firmware" / "pca9685"
GCC = shutil.which("g++")


def build(name, out, *flags):
    """Compile a file of `HERE` with every warning an error."""
    strict = ["-std=c++11", "-Wall", "-Wextra", "-Werror", "-I", str(SOURCE)]
    done = subprocess.run(
        [GCC, *strict, *flags, str(HERE / name), "-o", str(out)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return out


def load_library(folder):
    """`host.cpp` as a ctypes library."""
    lib = ctypes.CDLL(str(build("host.cpp", folder / "host.so", "-O1", "-shared", "-fPIC")))
    lib.controller_new.restype = ctypes.c_void_p
    lib.controller_answer.restype = ctypes.c_size_t
    whole, pointer = ctypes.c_int, ctypes.c_void_p
    takes = {
        "receive": [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint32],
        "answer": [ctypes.c_char_p, ctypes.c_size_t],
        "watch": [ctypes.c_uint32],
        "counts": [whole, whole, ctypes.c_uint32],
        "target": [whole, whole],
        "position": [whole, whole],
        "errors": [whole],
        "raise": [whole, whole],
        "tick": [],
        "delete": [],
    }
    for name, arguments in takes.items():
        getattr(lib, f"controller_{name}").argtypes = [pointer, *arguments]
    return lib


class Controller:
    """The firmware's state, without chips; its other calls are `host.cpp`'s."""

    def __init__(self, lib, crc=False, watchdog=2000):
        self.lib, self.me, self.now = lib, lib.controller_new(crc, watchdog), 0

    def say(self, data):
        """Bytes in, the answer out."""
        self.lib.controller_receive(self.me, bytes(data), len(data), self.now)
        out = ctypes.create_string_buffer(256)
        size = self.lib.controller_answer(self.me, out, 256)
        return out.raw[:size]

    def __getattr__(self, name):
        return lambda *a: getattr(self.lib, f"controller_{name}")(self.me, *a)

    def __del__(self):
        self.lib.controller_delete(self.me)
