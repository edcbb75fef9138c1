"""The one family of errors that facetwin raises on purpose, each a single line."""

from __future__ import annotations

from typing import Any

_MISSING = object()


class FaceTwinError(Exception):
    """Something failed: what, where, the value found, what was expected, what to do next.

    Parameters
    ----------
    what : str
        The complaint, without a full stop.
    where : optional
        File, key, port or argument that it is about.
    found, expected : optional
        The offending value and what would have been right.
    hint : str, optional
        The next step for the user.

    >>> hint = "use rig.spec"
    >>> print(FaceTwinError("not a command", where="write()", found=(25,), expected="(26,)", hint=hint))
    write(): not a command; found (25,), expected (26,); next: use rig.spec
    """

    exit_code = 1  # it failed

    def __init__(
        self,
        what: str,
        *,
        where: Any = None,
        found: Any = _MISSING,
        expected: Any = None,
        hint: str | None = None,
    ) -> None:
        facts = []
        if found is not _MISSING:
            facts.append(f"found {_short(found)}")
        if expected is not None:
            facts.append(f"expected {expected}")
        text = f"{where}: {what}" if where is not None else what
        if facts:
            text += "; " + ", ".join(facts)
        if hint:
            text += f"; next: {hint}"
        super().__init__(" ".join(text.split()))


class UsageError(FaceTwinError):
    """The question was wrong: a missing file, an unknown name, a value out of its range (exit code 2)."""

    exit_code = 2


def _short(value: Any, limit: int = 120) -> str:
    text = value if isinstance(value, str) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
