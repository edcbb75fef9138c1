"""A synthetic talker as a video of another person: drawn, tracked again, compared with the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facetwin.policies import synthetic, video
from facetwin.policies.dataset import Clip, load_clips
from facetwin.policies.scores import Reference, offset
from facetwin.policies.synthetic_video import COMMENT, Look, Portrait, film, make_look
from facetwin.policies.tracking import Options
from facetwin.policies.tracking_folder import track_single
from facetwin.twin.errors import UsageError
from facetwin.twin.landmarks import opening, width


def talk(language: str, voice: str, text: str, seed: int) -> Clip:
    return synthetic.say(synthetic.make_talker(language, voice, seed), text, seed=seed)


def test_pictures_follow_the_landmarks() -> None:
    clip = talk("en-us", "f1", "mama", 1)
    portrait = Portrait(clip.landmarks[0], size=96)
    rest = portrait.draw(clip.landmarks[0])
    wide = portrait.draw(clip.landmarks[int(opening(clip.landmarks).argmax())])
    assert rest.shape == (96, 96, 3)
    assert rest.dtype == np.uint8
    np.testing.assert_array_equal(rest, portrait.draw(clip.landmarks[0]))
    changed = np.abs(rest.astype(int) - wide).max(2) > 40
    assert 20 < changed.sum() < 0.2 * changed.size
    rows = np.flatnonzero(changed.any(1))
    assert rows.min() > 40  # nothing above the mouth


def test_looks_differ() -> None:
    face = synthetic.make_face(np.random.default_rng(0))
    pictures = [Portrait(face, make_look(np.random.default_rng(k)), 64).draw(face) for k in range(3)]
    assert np.abs(pictures[0].astype(int) - pictures[1]).mean() > 3
    assert np.abs(pictures[1].astype(int) - pictures[2]).mean() > 3


def test_bad_size() -> None:
    with pytest.raises(UsageError, match="no such size"):
        Portrait(synthetic.make_face(np.random.default_rng(0)), Look(), 10)


def test_a_film_has_sound_and_says_what_it_is(tmp_path: Path) -> None:
    import av

    clip = talk("nl", "m1", "ja", 2)
    path = film(clip, tmp_path / "a.mp4", size=64)
    info = video.probe(path)
    assert (info.frames, info.fps, info.sound) == (len(clip), 25.0, True)
    with av.open(str(path)) as container:
        assert container.metadata["comment"] == COMMENT
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("language", "voice", "text", "seed"),
    [
        ("en-gb", "m3", "My brother bought five blue boats from a farmer.", 21),
        ("fr", "linda", "Mon frère habite au-dessus d'une petite librairie.", 22),
        ("de", "f2", "Könntest du mir bitte das Brot und die Butter geben?", 23),
    ],
)
def test_the_whole_road_with_known_truth(
    language: str, voice: str, text: str, seed: int, tmp_path: Path
) -> None:
    clip = talk(language, voice, text, seed)
    film(clip, tmp_path / "a.mp4", look=make_look(np.random.default_rng(seed)), size=384)
    track_single(tmp_path / "a.mp4", tmp_path / "set", Options(sync="off"))
    (seen,) = load_clips(tmp_path / "set")
    assert len(seen) == len(clip)
    assert seen.seen.all()
    mouths = opening(seen.landmarks), opening(clip.landmarks)
    assert np.corrcoef(*mouths)[0, 1] > 0.9
    assert np.corrcoef(width(seen.landmarks), width(clip.landmarks))[0, 1] > 0.6
    truth = Reference("truth", clip.landmarks, clip.seen)
    assert abs(offset([seen.landmarks], [truth])) < 20
    n = min(len(seen.samples), len(clip.samples))
    spectra = (np.fft.rfft(x[:n], 2 * n) for x in (seen.samples, clip.samples))
    own, other = spectra
    lag = int(np.argmax(np.fft.irfft(own * np.conj(other))))
    assert min(lag, 2 * n - lag) < 80  # 5 ms
