"""Promises of ``facetwin bench lipsync`` that need no weights: options, films, and a whole tiny run."""

import json
import subprocess
import sys

import numpy as np
import pytest

from facetwin.assets import path as asset
from facetwin.cli.bench_contest import LATE, LEARNED, METHODS, check_methods
from facetwin.cli.bench_lipsync import BenchLipsync
from facetwin.cli.bench_tables import number, word
from facetwin.cli.bench_video import LINE, SIDE, film, marked, padded, square, tiles
from facetwin.cli.main import main
from facetwin.cli.recapture import Keeping
from facetwin.policies import synthetic
from facetwin.policies.lipsync_clips import TEXTS, spoken
from facetwin.policies.video import VideoWriter
from facetwin.twin.errors import UsageError

NEEDED = ("vae_face26", "transformer_latents_face26")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--methods", "magic"], "magic"),
        (["--methods", "late-1"], "no method that moves"),
        (["--landmarks", "smell"], "tracker or geometry"),
        (["--clips", "-1"], "clips"),
        (["--draws", "1"], "draws"),
        (["--rig", "nothing:"], "nothing"),
        (["--weights", "magic=x"], "vae=FILE"),
        (["--weights", "vae=/nowhere.safetensors"], "no such file"),
        (["--languages", "xx", "--rig", "sim:emo23"], "VAE"),
    ],
)
def test_what_is_asked_wrongly_says_so_in_one_line(tmp_path, capsys, arguments, told):
    assert main(["bench", "lipsync", "--out", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_defaults_are_all_methods_and_all_texts(tmp_path):
    options = BenchLipsync(out=tmp_path)
    assert set(options.methods) == set(METHODS) - {
        "reference",
        "transformer-acquainted",
    }  # that one moves first
    assert set(options.languages) == set(TEXTS)
    assert set(LATE) | set(LEARNED) < set(METHODS)
    check_methods(options.methods)
    with pytest.raises(UsageError, match="no method"):
        check_methods(())


def test_more_sentences_of_a_language():
    clips = spoken(["de", "en-us"], 3)
    assert [clip.name for clip in clips] == ["de", "de-2", "de-3", "en-us", "en-us-2", "en-us-3"]
    assert [clip.group for clip in clips] == ["de"] * 3 + ["en-us"] * 3
    assert len({clip.text for clip in clips}) == 6
    babbled = synthetic.sentences()["en-us"]  # the baselines look at poses of these
    assert not {clip.text for clip in clips} & set(babbled)
    with pytest.raises(UsageError, match="not so many sentences"):
        spoken(["de"], 99)


def test_figures_are_short_and_what_is_not_known_is_a_dash():
    assert number(0.05) == "0.0500"
    assert number(float("nan")) == "–"
    assert [word(one) for one in (True, False, None)] == ["met", "missed", "not known"]


def test_tiles_hold_every_picture_in_its_place():
    pictures = [(f"p{k}", np.full((SIDE, SIDE, 3), 10 + 20 * k, np.uint8)) for k in range(7)]
    whole = tiles(pictures, "title")
    assert whole.shape == (2 * (SIDE + LINE) + LINE, 5 * SIDE, 3)
    for k in range(7):
        top, left = LINE + (k // 5) * (SIDE + LINE), (k % 5) * SIDE
        assert (whole[top : top + SIDE, left : left + SIDE] == 10 + 20 * k).all()
    assert (marked(whole.copy()) != whole).any()


def test_films_are_square_and_held_to_their_length(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 25, (64, 48)) as writer:
        for k in range(5):
            writer.write(np.full((48, 64, 3), 40 * k, np.uint8))
    shown = film(tmp_path / "a.mp4", 8)
    assert len(shown) == 8
    assert all(one.shape == (SIDE, SIDE, 3) for one in shown)
    assert np.array_equal(shown[4], shown[7])
    assert abs(int(shown[2].mean()) - 80) < 6
    assert square(np.zeros((30, 50, 3), np.uint8), 16).shape == (16, 16, 3)


def test_sound_is_as_long_as_its_pictures():
    assert len(padded(np.ones(10), 4)) == 4 * 640
    assert padded(np.ones(9000), 2).sum() == 2 * 640


class Slow:
    """A watcher that answers only in the end."""

    def __init__(self, answers):
        self.answers, self.given = answers, 0

    def put(self, image, mirrored=False):
        self.given += 1

    def ready(self):
        return iter(())

    def finish(self):
        return iter(self.answers[: self.given])


def test_crops_come_in_the_order_of_their_pictures():
    from facetwin.twin.landmarks import canonical

    face = (canonical() * (60, -60, 1) + (64, 40, 0)).astype(np.float32)
    keep = Keeping(Slow([face, None, face]))
    for k in range(3):
        keep.put(np.full((128, 128, 3), 50 * k + 20, np.uint8))
    assert list(keep.ready()) == []
    assert [one is None for one in keep.finish()] == [False, True, False]
    assert [None if c is None else int(c.mean()) for c in keep.crops] == [20, None, 120]
    assert keep.puts == 3


@pytest.mark.slow
@pytest.mark.skipif(
    not all(asset("weights", f"{name}.safetensors").is_file() for name in NEEDED),
    reason="weights of VAE and transformer are not there",
)
def test_a_tiny_run_says_all_and_goes_on_where_it_was(tmp_path):
    arguments = [
        "bench", "lipsync", "--out", str(tmp_path), "--languages", "en-us", "--no-song", "--landmarks",
        "geometry", "--poses", "200", "--draws", "100", "--json",
        "--methods", "transformer", "frozen", "late-1",
    ]  # fmt: skip

    def run() -> dict:  # a program of its own: espeak-ng says a text the same to the bit only once in each
        done = subprocess.run(
            [sys.executable, "-m", "facetwin.cli.main", *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)

    first = run()
    assert set(first["methods"]) == {"transformer", "frozen", "late-1", "reference"}
    ours, frozen = (first["methods"][m]["latent distance"][0] for m in ("transformer", "frozen"))
    assert ours < frozen
    report = (tmp_path / "report.html").read_text("utf-8")
    assert "http" not in report.replace("http://www.w3.org", "")
    assert (tmp_path / "lipsync.mp4").stat().st_size > 10_000
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.glob("takes/*/*.safetensors")}
    again = run()
    for name, row in first["methods"].items():
        assert {k: v for k, v in row.items() if k != "compute"} == {
            k: v for k, v in again["methods"][name].items() if k != "compute"
        }
    assert stamps == {p: p.stat().st_mtime_ns for p in stamps}


@pytest.mark.slow
def test_both_eyes_see_the_same_lips_of_the_twin():
    from contextlib import ExitStack

    from facetwin.cli.recapture import open_eye
    from facetwin.hardware.names import open_rig
    from facetwin.twin.landmarks import opening

    with ExitStack() as stack:
        rig = stack.enter_context(open_rig("sim:?solver=fast&renderer=fast"))
        rows = np.repeat(rig.spec.rest[None].astype(np.float32), 12, 0)
        rows[4:, rig.spec.index("jaw")] = 0.5
        rig.activate()
        told = [open_eye(way, rig, stack).watch(rig, rows, None, 3) for way in ("tracker", "geometry")]
    tracked, known = told
    assert len(tracked) == len(known) == 12
    assert np.array_equal(tracked.sent, known.sent)
    assert np.allclose(tracked.seen.gap, known.seen.gap, atol=1e-4)
    assert known.seen.gap[-1] > known.seen.gap[0] + 3
    for take in told:
        shown = opening(take.seen.faces())
        assert shown[-1] > shown[0] + 0.05
    apart = np.abs(tracked.crops.astype(float) - known.crops).mean((1, 2, 3))
    assert apart.max() < 12  # noise, and a crop a little off
    with pytest.raises(UsageError, match="tracker or geometry"):
        open_eye("smell", rig, stack)
