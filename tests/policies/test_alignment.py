"""Word alignments, and what onsets of people look like."""

from __future__ import annotations

from pathlib import Path

import pytest

from facetwin.policies import alignment
from facetwin.twin.errors import FaceTwinError, UsageError


def test_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.align"
    path.write_text("0 10000 sil\n10000 15000 bin\n15000 20000 white\n20000 25000 at\n25000 30000 m\n")
    words = alignment.read_align(path)
    assert words[1] == alignment.Word("bin", 0.4, 0.6)
    onsets = alignment.word_onsets(words)
    assert onsets.bilabial == (0.4,)
    assert onsets.rounded == (0.6,)
    assert onsets.control == (0.8,)


def test_the_lists_do_not_overlap() -> None:
    lists = (
        alignment.BILABIAL_WORDS,
        alignment.CONTROL_WORDS,
        alignment.ROUNDED_WORDS,
        alignment.LABIODENTAL_WORDS,
    )
    assert sum(map(len, lists)) == len(frozenset().union(*lists))


def test_errors_name_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        alignment.read_align(tmp_path / "absent.align")
    path = tmp_path / "bad.align"
    path.write_text("0 100 sil\none two\n")
    with pytest.raises(FaceTwinError, match=r"bad\.align:2"):
        alignment.read_align(path)


def test_every_word_of_grid_is_known(shared_data: Path) -> None:
    known = (
        alignment.BILABIAL_WORDS
        | alignment.CONTROL_WORDS
        | alignment.ROUNDED_WORDS
        | alignment.LABIODENTAL_WORDS
    )
    files = sorted((shared_data / "grid_s1" / "align").glob("*.align"))[:200]
    words = {word.text for file in files for word in alignment.read_align(file)}
    # "em", "ef", "oh", "cue", "you" begin like controls or round the lips: they are in no list
    assert words - known <= {"sil", "sp", "m", "f", "o", "q", "u"}
