"""The report: whole, self-contained, and honest about what was not seen."""

from __future__ import annotations

import html.parser
import re

import numpy as np
import pytest

from facetwin.cli.report import Event, Moment, Report, Table, choose_moments, render, write_report


def report(frames=200, **changes):
    t = np.arange(frames) / 25
    reference = 0.1 + 0.1 * np.sin(2 * np.pi * 2 * t)
    seen = reference + 0.01
    seen[50:55] = np.nan
    sent = np.clip(0.5 + 0.4 * np.sin(np.arange(2 * frames)[:, None] / 20 + np.arange(3)), 0, 1)
    values = {
        "title": "facetwin speak <sample>.wav",
        "said": "Bonjour & bonsoir",
        "fps": 25.0,
        "seen": seen,
        "reference": reference,
        "reference_name": "the target",
        "motors": ("jaw", "a", "b"),
        "groups": ("jaw", "lips", "lips"),
        "asked": sent + 0.05,
        "sent": sent,
        "rate": 50.0,
        "events": [Event(1.0, 1.1, "p", closes=True), Event(1.1, 1.3, "a")],
        "tables": [Table("Scores", ("D-P",), (("ours", (0.0123,)), ("frozen", (None,))), ("low",), "in u")],
        "moments": [Moment(2.04, "widest open", np.zeros((8, 8, 3), np.uint8))],
        "facts": [("seed", "0")],
    }
    return Report(**{**values, **changes})


class Balanced(html.parser.HTMLParser):
    """Counts open elements; void ones do not open."""

    void = frozenset({"meta", "img", "rect", "line", "path"})

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attributes):
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.void:
            assert self.open.pop() == tag


@pytest.mark.parametrize("frames", [200, 90_000])
def test_self_contained(frames):
    text = render(report(frames))
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    assert not re.search(r"(src|href)=['\"]?(http|//)|url\(|@import", text)
    assert "&lt;sample&gt;" in text
    assert "nan" not in re.sub(r"base64,[^']*", "", text).lower()
    assert len(text) < 2_000_000


@pytest.mark.parametrize("seen", [np.full(100, np.nan), np.zeros(100), np.zeros(2)])
def test_nothing_to_see(seen):
    text = render(report(len(seen), seen=seen, reference=np.zeros(len(seen)), moments=(), events=()))
    assert "<svg" in text
    choose_moments(seen, np.zeros(len(seen)), np.zeros(len(seen)), 25.0)


def test_appears_whole_or_not_at_all(tmp_path):
    write_report(tmp_path / "report.html", report())
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(AttributeError):
        write_report(tmp_path / "other.html", report(said=None, tables=[None]))
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_bilabial_is_among_the_moments():
    t = np.arange(100) / 25
    opening = np.abs(np.sin(2 * np.pi * t))
    picked = choose_moments(opening, opening, opening, 25.0, [Event(1.5, 1.6, "m", closes=True)])
    assert "/m/" in dict(picked).values()
