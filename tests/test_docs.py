"""Every public thing says what it is, and what the docstrings show is true."""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDERS = ("assets", "twin", "hardware", "envs", "policies", "cli")


def modules() -> list[str]:
    """Name of every importable module of facetwin; a script outside a package is none."""
    names = []
    for folder in FOLDERS:
        for file in sorted((REPOSITORY / folder).rglob("*.py")):
            inside = file.relative_to(REPOSITORY)
            if all((REPOSITORY / parent / "__init__.py").exists() for parent in list(inside.parents)[:-1]):
                parts = inside.with_suffix("").parts
                names.append(".".join(("facetwin", *(parts[:-1] if parts[-1] == "__init__" else parts))))
    return names


@pytest.mark.parametrize("name", modules())
def test_documented_and_true(name):
    module = importlib.import_module(name)
    assert not undocumented(module)
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert result.failed == 0


def undocumented(module) -> list[str]:
    """Public functions, classes and methods defined in `module` that have no docstring."""
    missing = [] if module.__doc__ else [module.__name__]
    for name, thing in vars(module).items():
        if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
            continue
        if not (inspect.isclass(thing) or inspect.isroutine(thing)):
            continue
        if not inspect.getdoc(thing):
            missing.append(f"{module.__name__}.{name}")
        if inspect.isclass(thing):
            missing += [
                f"{module.__name__}.{name}.{key}"
                for key, value in vars(thing).items()
                if not key.startswith("_")
                and isinstance(value, property | classmethod | staticmethod | type(undocumented))
                and not inspect.getdoc(getattr(thing, key))
            ]
    return missing


def test_the_readme_names_only_what_there_is():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for link in [piece.split(")")[0] for piece in text.split("](")[1:]]:
        if not link.startswith(("http", "#")):
            assert (REPOSITORY / link).exists(), f"README.md links to {link}, which is not there"
