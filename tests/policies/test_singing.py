"""Promises of the sung line."""

import numpy as np
import pytest

from facetwin.policies.espeak import RATE, Phoneme
from facetwin.policies.singing import TUNE, Note, sing, syllables
from facetwin.twin.errors import UsageError


def test_every_sound_stays_in_order_and_the_notes_last_as_told():
    sung = sing("Mama.", [Note(0, 0.5), Note(4, 0.9)])
    names = [p.name.strip("ˈˌː") for p in sung.phonemes if p.name]
    assert names[0] == "m"
    assert names[2] == "m"
    starts = [p.start for p in sung.phonemes]
    assert starts == sorted(starts)
    assert sung.phonemes[0].start == 0
    assert 0.9 < sung.duration < 1.5  # notes of 1.4 s, but a vowel is drawn out by six at most
    assert len(sung.samples) == round(sung.phonemes[-1].end * RATE)
    assert np.isfinite(sung.samples).all()
    assert np.abs(sung.samples).max() <= 1


def test_notes_are_at_their_pitch():
    import librosa

    def pitch(semitones):
        sung = sing("Ma.", [Note(semitones, 1.0)])
        f0 = librosa.yin(sung.samples, fmin=60, fmax=400, sr=RATE, frame_length=1024)
        return np.median(f0[len(f0) // 4 : -len(f0) // 4])

    assert 12 * np.log2(pitch(7) / pitch(0)) == pytest.approx(7, abs=0.7)


def test_syllables_keep_all_phonemes_in_order():
    names = ["p", "l", "iː", "z", "", "b", "uː", "m"]
    phonemes = [Phoneme(n, k, k + 1) for k, n in enumerate(names)]
    groups = syllables(phonemes)
    assert [p for group in groups for p in group] == phonemes
    assert all(sum(p.name[:1] in "iu" and p.name != "" for p in group) <= 1 for group in groups)


@pytest.mark.parametrize("tune", [[], [Note(0, 0.0)]])
def test_a_tune_without_notes_is_refused(tune):
    with pytest.raises(UsageError, match="tune"):
        sing("Mama", tune)
    assert TUNE
