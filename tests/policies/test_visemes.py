"""Viseme confusion: what a perfect, a late, a dead and a shuffled mouth score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facetwin.policies import visemes
from facetwin.policies.espeak import Phoneme, speak
from facetwin.twin.errors import FaceTwinError

IPA = ("p", "f", "w", "θ", "s", "ʃ", "k", "iː", "ɛ", "oʊ", "ˈuː", "ɹ")


def talk(seed: int, clips: int, noise: float = 0.004) -> tuple[list[np.ndarray], list[tuple[Phoneme, ...]]]:
    """Clips whose every sound has a shape of its own, smeared over time and with jitter."""
    shapes = np.random.default_rng(99).normal(0, 0.03, (len(IPA), 63, 2))
    rng = np.random.default_rng(seed)
    moves, said = [], []
    for _ in range(clips):
        kinds = rng.integers(len(IPA), size=25)
        edges = np.cumsum(rng.uniform(0.06, 0.14, 26)) - 0.05
        said.append(tuple(Phoneme(IPA[k], a, b) for k, a, b in zip(kinds, edges, edges[1:])))
        at = np.clip(np.searchsorted(edges, np.arange(int(edges[-1] * 25)) / 25, "right") - 1, 0, 24)
        face = shapes[kinds[at]]
        face[1:-1] = (face[:-2] + 2 * face[1:-1] + face[2:]) / 4
        moves.append(face + rng.normal(0, noise, face.shape))
    return moves, said


@pytest.fixture(scope="module")
def train() -> visemes.Sounds:
    return visemes.sounds(*talk(0, 30))


def test_the_inventory() -> None:
    assert len(visemes.CONSONANTS) == 24
    assert len(visemes.VOWELS) == 16
    assert len(set(visemes.PHONES)) == 40
    assert sorted(p for group in visemes.CLASSES.values() for p in group) == sorted(visemes.PHONES)
    assert set(visemes._IPA.values()) == set(visemes.PHONES)


def test_every_sound_of_english_has_a_name() -> None:
    text = (
        "The boy's voice measured thin things; father, judge, church. A pure vision, a poor bird, hurry now."
    )
    said = [p.name for p in speak(text, "en-us").phonemes]
    assert [p for p in said if p and visemes.phone(p) is None] == []


def test_a_copy_reads_as_well_as_the_person(train: visemes.Sounds) -> None:
    other = visemes.sounds(*talk(1, 12))
    reading = visemes.read_visemes(train, other, other)
    figures = reading.scores()
    assert figures["viseme ratio"].value == 1.0
    assert reading.reference.accuracy > 0.9 > 0.3 > reading.reference.chance
    assert reading.reference_classes.accuracy >= reading.reference.accuracy


def test_worse_mouths_read_worse(train: visemes.Sounds) -> None:
    moves, said = talk(2, 12)
    reference = visemes.sounds(moves, said)
    rows = {
        "noise": [m + np.random.default_rng(k).normal(0, 0.08, m.shape) for k, m in enumerate(moves)],
        "late": [np.concatenate([m[:4], m[:-4]]) for m in moves],
        "dead": [np.zeros_like(m) for m in moves],
    }
    ratio = {
        name: visemes.read_visemes(train, visemes.sounds(made, said), reference)
        .scores()["viseme ratio"]
        .value
        for name, made in rows.items()
    }
    assert ratio["noise"] < 0.97
    assert max(ratio["late"], ratio["dead"]) < 0.4


def test_unseen_pictures_and_ends_are_left_out() -> None:
    moves, said = talk(3, 1)
    seen = np.ones(len(moves[0]), bool)
    every = visemes.sounds(moves, said, seen=[seen])
    seen[20] = False
    some = visemes.sounds(moves, said, seen=[seen])
    assert 0 < len(some) < len(every)
    beyond = (*said[0], Phoneme("p", 100.0, 100.1), Phoneme("", 0.5, 0.6), Phoneme("ʁ", 0.5, 0.6))
    assert len(visemes.sounds(moves, [beyond])) == len(every)


def test_what_does_not_pair_is_refused(train: visemes.Sounds) -> None:
    moves, said = talk(4, 2)
    with pytest.raises(FaceTwinError, match="do not pair"):
        visemes.sounds(moves, said[:1])
    with pytest.raises(FaceTwinError, match="sounds differ"):
        visemes.read_visemes(train, visemes.sounds(moves[:1], said[:1]), visemes.sounds(moves, said))
    with pytest.raises(FaceTwinError, match="too few kinds"):
        visemes.LipReader().fit(visemes.sounds(moves[:1], [said[0][:1]]))


def test_the_picture(train: visemes.Sounds, tmp_path: Path) -> None:
    visemes.draw_confusion(visemes.read_visemes(train, train, train), tmp_path / "v.png")
    assert (tmp_path / "v.png").read_bytes()[:4] == b"\x89PNG"
    assert not list(tmp_path.glob("*.part"))
