"""The arrows between the packages: who may import whom (docs/decisions.md, "Layout")."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

MAY_IMPORT = {
    "assets": set(),
    "twin": {"assets"},
    "hardware": {"twin", "assets"},
    "policies": {"twin", "assets"},
    "envs": {"twin", "hardware", "assets"},
    "cli": {"twin", "hardware", "policies", "envs", "assets"},
}


def wrong_arrows(source: str, folder: str) -> list[str]:
    """Imports in `source`, a file of `folder`, that point the wrong way: "line: what"."""
    wrong = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                wrong.append(f"{node.lineno}: relative import")
                continue
            base = node.module or ""
            names = [base] if base != "facetwin" else [f"facetwin.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Call) and _is_import_call(node) and node.args:
            first = node.args[0]
            names = [first.value] if isinstance(first, ast.Constant) and isinstance(first.value, str) else []
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] in MAY_IMPORT:
                wrong.append(f"{node.lineno}: {name}, a folder where facetwin.{name} was meant")
            if parts[0] != "facetwin" or parts[1:2] == [folder]:
                continue
            if len(parts) < 2 or parts[1] not in MAY_IMPORT[folder]:
                wrong.append(f"{node.lineno}: {folder} -> {name}")
    return wrong


def _is_import_call(node: ast.Call) -> bool:
    return ast.unparse(node.func) in ("importlib.import_module", "import_module", "__import__")


@pytest.mark.parametrize("folder", sorted(MAY_IMPORT))
def test_arrows_point_the_right_way(folder):
    files = sorted((REPOSITORY / folder).rglob("*.py"))
    assert files
    wrong = [
        f"{file.relative_to(REPOSITORY)}:{arrow}"
        for file in files
        for arrow in wrong_arrows(file.read_text(encoding="utf-8"), folder)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("source", "folder", "bad"),
    [
        ("import facetwin.twin.spec", "hardware", 0),
        ("from facetwin import assets", "twin", 0),
        ("from facetwin.policies.scores import opening", "cli", 0),
        ("from facetwin.hardware.rig import Rig", "policies", 1),
        ("from facetwin import hardware, envs", "policies", 2),
        ("def f():\n    import facetwin.envs", "twin", 1),
        ("from . import spec", "twin", 1),
        ("from ..twin import spec", "hardware", 1),
        ("import twin.spec", "hardware", 1),
        ("import importlib\nimportlib.import_module('facetwin.cli.main')", "envs", 1),
    ],
)
def test_the_walker_sees(source, folder, bad):
    assert len(wrong_arrows(source, folder)) == bad
