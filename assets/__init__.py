"""Files that ship with facetwin: rig tables, the face mesh, sample speech, trained weights."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent


def path(*parts: str) -> Path:
    """Path of a shipped file, e.g. ``path("rigs", "face26.toml")``; it may not exist yet."""
    return ROOT.joinpath(*parts)
