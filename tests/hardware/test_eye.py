"""Eyes: named by URL; the webcam is put through its paces with video files, through the same OpenCV."""

import threading
import time

import av
import numpy as np
import pytest

from facetwin.hardware.eye import Eye, make_eye
from facetwin.hardware.webcam import Webcam
from facetwin.twin.errors import FaceTwinError, UsageError

WIDTH, HEIGHT, RATE, COUNT = 64, 48, 50, 60


def number(image):
    """Which picture it is: the red of its left half."""
    return round(float(image[:, : image.shape[1] // 4, 0].mean()) / 4)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp("eye") / "film.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        for k in range(COUNT):
            image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
            image[:, : WIDTH // 2, 0] = 4 * k
            image[: HEIGHT // 2, WIDTH // 2 :, 2] = 200  # blue, upper right
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_an_eye_by_name(film):
    eye = make_eye(f"webcam:{film}?width=64&height=48&mirror=false&delay=0.03&crop=8,4,40,32&rotate=90")
    assert isinstance(eye, Eye)
    assert eye.shape == (40, 32, 3)  # known before it is opened
    assert make_eye("webcam:2").device == 2
    assert make_eye("webcam:/dev/video2").device == "/dev/video2"


def test_it_shows_the_newest_picture_in_rgb_and_says_when_it_was(film):
    eye = Webcam(film, width=WIDTH, height=HEIGHT, delay=0.1, mirror=False)
    eye.open()
    eye.open()
    try:
        first = eye.look()
        assert first.image.shape == eye.shape == (HEIGHT, WIDTH, 3)
        assert not first.mirrored
        assert first.image[5, 50, 2] > 150  # blue, upper right
        assert first.image[40, 50, 2] < 50
        time.sleep(0.3)
        later = eye.look()
        now = time.monotonic()
        assert number(later.image) - number(first.image) == pytest.approx(0.3 * RATE, abs=6)
        assert later.time > first.time
        assert now - 0.1 - 0.3 < later.time <= now - 0.1
    finally:
        eye.close()
        eye.close()
    with pytest.raises(FaceTwinError, match="the eye is closed"):
        eye.look()


def test_crop_and_turn(film):
    eye = Webcam(film, width=WIDTH, height=HEIGHT, crop="32,0,32,48", rotate=90)
    eye.open()
    try:
        image = eye.look().image
    finally:
        eye.close()
    assert image.shape == (32, 48, 3)
    assert image[:, 30:, 2].mean() > 150  # the upper half is on the right now
    assert image[:, :18, 2].mean() < 50


def test_a_camera_that_falls_silent_is_told_in_time_and_leaves_no_thread(film):
    eye = Webcam(film, width=WIDTH, height=HEIGHT, timeout=0.2)
    eye.open()
    time.sleep(COUNT / RATE + 0.4)
    start = time.monotonic()
    with pytest.raises(TimeoutError, match="the video has ended"):
        eye.look()
    assert time.monotonic() - start < 0.6
    eye.close()
    assert not [t for t in threading.enumerate() if t.name == "facetwin webcam"]


class Pulled:
    """A camera whose cable is pulled after some pictures; stands in for OpenCV's."""

    opened = 0

    def __init__(self, device):
        Pulled.opened += 1
        self.left = 5

    def isOpened(self):
        return Pulled.opened != 2  # the first attempt to open it again is too early

    def set(self, *_):
        return True

    def get(self, key):
        import cv2

        return {cv2.CAP_PROP_FRAME_WIDTH: WIDTH, cv2.CAP_PROP_FRAME_HEIGHT: HEIGHT}.get(key, 0.0)

    def grab(self):
        time.sleep(0.01)
        self.left -= 1
        return self.left > 0 or Pulled.opened > 2

    def retrieve(self):
        return True, np.zeros((HEIGHT, WIDTH, 3), np.uint8)

    def release(self):
        pass


def test_a_camera_that_was_pulled_and_put_back_is_seen_again(monkeypatch):
    monkeypatch.setattr("facetwin.hardware.webcam.cv2.VideoCapture", Pulled)
    monkeypatch.setattr("facetwin.hardware.webcam._AGAIN", 0.15)
    eye = Webcam(0, width=WIDTH, height=HEIGHT, timeout=0.1)
    eye.open()
    try:
        time.sleep(0.2)
        with pytest.raises(TimeoutError, match="the camera has gone"):
            eye.look()
        time.sleep(0.4)
        assert eye.look().image.shape == eye.shape
        assert Pulled.opened == 3
    finally:
        eye.close()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("webcm:0", "no such kind of eye.*did you mean webcam"),
        ("0", "not the name of an eye"),
        ("webcam:0?widht=5", "did you mean width"),
        ("webcam:0?width=7", "16 to 8192"),
        ("webcam:0?width=3.5", "16 to 8192"),
        ("webcam:0?delay=-1", "delay: bad setting"),
        ("webcam:0?mirror=maybe", "true or false"),
        ("webcam:0?rotate=45", "0, 90, 180 or 270"),
        ("webcam:0?crop=0,0,700,10", "within 640 x 480"),
        ("webcam:0?crop=here", "within 640 x 480"),
        ("webcam:0?code=MJPEG", "four letters"),
    ],
)
def test_wrong_names(name, words):
    with pytest.raises(UsageError, match=words) as error:
        make_eye(name)
    assert "\n" not in str(error.value)


def test_what_cannot_be_opened_says_what_to_try(tmp_path, film, capfd):
    with pytest.raises(UsageError, match=r"no such camera.*expected /dev/video87.*cable"):
        make_eye("webcam:87").open()
    with pytest.raises(UsageError, match="no such camera"):
        make_eye(f"webcam:{tmp_path / 'gone.avi'}").open()
    (tmp_path / "not.avi").write_text("no film")
    with pytest.raises(UsageError, match="not a video"):
        make_eye(f"webcam:{tmp_path / 'not.avi'}").open()
    eye = make_eye(f"webcam:{film}")
    with pytest.raises(UsageError, match=r"found 64 x 48, expected 640 x 480; next: give width=64&height=48"):
        eye.open()
    eye.close()
    assert capfd.readouterr().err == ""  # OpenCV itself keeps quiet
