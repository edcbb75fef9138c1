"""Reading one table of a rig file: every key is asked for once, and a wrong one is named with its place."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from facetwin.twin.errors import UsageError
from facetwin.twin.spec_parts import Range


class Table:
    """One TOML table being read: every key is asked for once, what is left over is an error.

    Methods named after a kind of value take a key and raise `UsageError` for a wrong or missing value.
    """

    def __init__(self, content: Any, file: str, path: str) -> None:
        self.file, self.path = file, path
        if not isinstance(content, Mapping):
            raise self.error("", "not a table", content, "key = value pairs")
        self.left = dict(content)
        self.known: list[str] = []

    def error(self, key: str, what: str, found: Any, expected: str, hint: str | None = None) -> UsageError:
        """The error of one key, with file and place, to be raised."""
        full = ".".join(p for p in (self.path, key) if p)
        return UsageError(what, where=f"{self.file}: {full}" if full else self.file, found=found,
                          expected=expected, hint=hint)  # fmt: skip

    def take(self, key: str, default: Any = ...) -> Any:
        """The value of a key as it stands; an error without a default."""
        self.known.append(key)
        if key in self.left:
            return self.left.pop(key)
        if default is ...:
            close = difflib.get_close_matches(key, self.left, 1)
            hint = f"is {close[0]} meant to be {key}?" if close else f"add {key} = ..."
            raise self.error(key, "missing", "nothing", "a value", hint)
        return default

    def number(self, key: str, low: float, high: float, default: Any = ..., *, factor: float = 1.0) -> float:
        """A finite number between two ends."""
        value = self.take(key, default)
        return self.checked(key, value, low, high) * (factor if value is not default else 1.0)

    def checked(self, key: str, value: Any, low: float, high: float) -> float:
        """`value` as a float between two ends, or the error that says why not."""
        span = f"a number from {low:g} to {high:g}"
        if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
            raise self.error(key, "wrong type", value, span)
        if math.isnan(value) or not low <= value <= high:
            raise self.error(key, "out of range", float(value), span)
        return float(value)

    def integer(self, key: str, low: int, high: int, default: Any = ...) -> int:
        """A whole number between two ends."""
        value = self.take(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
            raise self.error(key, "wrong value", value, f"a whole number from {low} to {high}")
        return int(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.take(key, default)
        if not isinstance(value, bool):
            raise self.error(key, "wrong type", value, "true or false")
        return value

    def text(self, key: str, default: Any = ...) -> str:
        """A text."""
        value = self.take(key, default)
        if not isinstance(value, str):
            raise self.error(key, "wrong type", value, "a text in quotes")
        return value

    def choice(self, key: str, options: Iterable[str], default: Any = ...) -> str:
        """One of a few texts."""
        value, options = self.text(key, default), tuple(options)
        if value not in options:
            raise self.error(
                key, "unknown value", value, "one of " + ", ".join(options), suggest(value, options)
            )
        return value

    def name(self, key: str = "name") -> str:
        """A name: lower-case letters, digits and _."""
        value = self.text(key)
        if not value.isidentifier() or value != value.lower():
            raise self.error(key, "bad name", value, "lower-case letters, digits and _")
        return value

    def vector(self, key: str, size: int, default: Any = ..., *, low: float = -1e6, high: float = 1e6) -> Any:
        """`size` numbers, each between two ends; None where that is the default."""
        value = self.take(key, default)
        if value is None:
            return None
        if not isinstance(value, (list, tuple)) or len(value) != size:
            raise self.error(key, "wrong type", value, f"a list of {size} numbers")
        return tuple(self.checked(f"{key}[{i}]", v, low, high) for i, v in enumerate(value))

    def range(self, key: str, low: float, high: float) -> Range:
        """[low, high] with low <= high."""
        pair = self.vector(key, 2, low=low, high=high)
        if pair[0] > pair[1]:
            raise self.error(key, "swapped limits", list(pair), "[low, high] with low <= high")
        return pair

    def table(self, key: str, default: Any = ...) -> Table:
        """A table inside of this one."""
        return Table(self.take(key, default), self.file, ".".join(p for p in (self.path, key) if p))

    def tables(self, key: str) -> list[Table]:
        """The tables under [[key]]."""
        value = self.take(key, [])
        if not isinstance(value, (list, tuple)):
            raise self.error(key, "wrong type", value, f"tables, each under [[{key}]]")
        out = []
        for i, content in enumerate(value):
            name = content.get("name", i) if isinstance(content, Mapping) else i
            out.append(Table(content, self.file, f"{key}[{name}]"))
        return out

    def done(self) -> None:
        """Complain of what nobody asked for."""
        for key, value in self.left.items():
            close = suggest(key, self.known)
            raise self.error(key, "unknown key", value, "one of " + ", ".join(self.known), close)


def suggest(word: str, options: Iterable[str]) -> str | None:
    """A hint for a misspelt word, or None when nothing is near."""
    close = difflib.get_close_matches(str(word), list(options), 1)
    return f"did you mean {close[0]}?" if close else None
