"""Face files: what they say is checked to the key, and what they make is a rig that keeps the contract."""

import re
from pathlib import Path

import numpy as np
import pytest

from facetwin.hardware.check import check_rig
from facetwin.hardware.composite import CompositeRig
from facetwin.hardware.face_file import is_face_file, read_face
from facetwin.hardware.names import make_rig, open_rig, parse_name
from facetwin.hardware.safety import SafetyLayer
from facetwin.hardware.safety_settings import Level, Limit
from facetwin.twin.errors import UsageError
from facetwin.twin.spec import load_rig

FACE = load_rig("face26")
EXAMPLE = Path(__file__).parents[2] / "examples" / "my_face.toml"
GOOD = """
table = "face26"
[[bus]]
name = "head"
rig = "maestro:/dev/ttyACM0"
motors = ["neck", "eyes", "lids", "brows", "jaw"]
[bus.wiring.jaw]
zero = 6100
[[bus]]
rig = "maestro:/dev/ttyACM1?crc=true"
motors = ["lips"]
[camera]
eye = "webcam:3?width=320&height=240"
[safety]
watchdog = "off"
temperature = ["warn", 50]
"""


def made(tmp_path, text):
    path = tmp_path / "face.toml"
    path.write_text(text)
    return make_rig(str(path))


def test_the_example_is_a_face(tmp_path):
    face = read_face(EXAMPLE)
    assert face.spec == FACE
    assert [bus.name for bus in face.buses] == ["head", "mouth"]
    rig = make_rig(str(EXAMPLE))
    assert isinstance(rig, CompositeRig)
    assert rig.capabilities.camera == (480, 640, 3)
    assert not rig.capabilities.harmless
    layer = SafetyLayer(rig)
    assert layer.settings.temperature == Limit(Level(55), Level(65))
    assert layer.settings.idle_detach == 60
    assert sorted(np.concatenate(list(rig.where.values()))) == list(range(26))


def test_a_face_file_is_told_from_a_rig_table(tmp_path):
    assert is_face_file(EXAMPLE)
    assert parse_name(str(EXAMPLE))[0] == "face"
    assert parse_name("gone.toml")[0] == "sim"
    (tmp_path / "t.toml").write_text('name = "x"')
    assert not is_face_file(tmp_path / "t.toml")


def test_what_it_says_gets_where_it_belongs(tmp_path):
    rig = made(tmp_path, GOOD)
    assert list(rig.parts) == ["head", "maestro:/dev/ttyACM1"]
    head, lips = rig.parts.values()
    assert head.spec.names == FACE.names[:16]
    assert lips.spec.names == FACE.names[16:]
    assert head.wiring.zero[15] == 6100
    assert rig.eye.size == (320, 240)
    layer = SafetyLayer(rig, stall="off")  # the file's settings, and one that wins over it
    assert layer.watchdog is None
    assert layer.settings.temperature == Limit(Level(50), None)
    assert layer.settings.stall == Limit()
    assert "stall: off" in layer.describe()


def test_one_bus_with_all_motors_is_the_driver_itself(tmp_path):
    text = (
        'table = "face26"\n[[bus]]\nrig = "maestro:/dev/ttyACM0,/dev/ttyACM1"\n[camera]\neye = "webcam:0"\n'
    )
    rig = made(tmp_path, text)
    assert type(rig).__name__ == "MaestroRig"
    assert rig.capabilities.camera == (480, 640, 3)
    assert rig.spec == FACE


def test_a_table_of_ones_own_is_found_beside_the_file(tmp_path):
    from facetwin import assets

    text = assets.path("rigs", "face26.toml").read_text()
    (tmp_path / "own.toml").write_text(text.replace("young = 100e3", "young = 90e3", 1))
    rig = made(tmp_path, 'table = "own.toml"\n[[bus]]\nrig = "sim:"\n')
    assert rig.spec.material.young == 9e4
    assert rig.capabilities.harmless


@pytest.mark.sim
@pytest.mark.slow
def test_a_simulated_face_keeps_the_contract(tmp_path):
    rig = made(tmp_path, 'table = "face26"\n[[bus]]\nrig = "sim:?solver=linear&size=48"\n')
    report = check_rig(SafetyLayer(rig))
    assert report.skipped == {}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('table = "face26"', 'table = "face27"', "table: no such rig table; found face27"),
        ('table = "face26"', "", "table: missing"),
        ('table = "face26"', 'table = "gone.toml"', "no such rig file"),
        ('table = "face26"', 'tabel = "face26"', "is tabel meant to be table?"),
        ("[camera]", "[cammera]", "cammera: unknown key.*did you mean camera?"),
        ("[camera]\neye", "[camera]\neyes", "camera.eye: missing.*is eyes meant to be eye?"),
        ("webcam:3", "webcm:3", "camera.eye: .*did you mean webcam:?"),
        ("width=320", "widht=320", "camera.eye: .*did you mean width?"),
        ("width=320", "width=5", "camera.eye: .*16 to 8192"),
        ('motors = ["lips"]', "", "a motor on two buses; found neck_yaw"),
        ('motors = ["lips"]', 'motors = ["lips", "jaw"]', "a motor on two buses; found jaw"),
        ('motors = ["lips"]', 'motors = ["lips", "upper_lip_roll"]', "given twice; found upper_lip_roll"),
        ('motors = ["lips"]', 'motors = ["upper_lip_roll"]', "motors on no bus; found upper_lip_raise, low"),
        ('motors = ["lips"]', 'motors = ["lip"]', "no such motor or group; found lip.*did you mean lips?"),
        ('motors = ["lips"]', "motors = []", "motors: wrong type"),
        ('motors = ["lips"]', 'motors = "lips"', "motors: wrong type"),
        ('"maestro:/dev/ttyACM1?crc=true"', '"maestr:/dev/ttyACM1"', "did you mean maestro:?"),
        ("crc=true", "csc=true", "did you mean crc?"),
        ('"maestro:/dev/ttyACM1?crc=true"', '"/dev/ttyACM1"', "not the name of a bus"),
        ('"maestro:/dev/ttyACM1?crc=true"', "7", "rig: wrong value|rig: wrong type"),
        ("[bus.wiring.jaw]", "[bus.wiring.jww]", "no such motor on this bus; found jww.*did you mean jaw?"),
        ("[bus.wiring.jaw]", "[bus.wiring.upper_lip_roll]", "no such motor on this bus"),
        ("zero = 6100", "zeroo = 6100", "wiring of jaw: no such key.*did you mean zero?"),
        ("zero = 6100", "zero = nan", "wiring of jaw: zero: bad value"),
        ("zero = 6100", "zero = 60000", "does not fit"),
        ('name = "head"', 'name = "maestro:/dev/ttyACM1"', "given twice"),
        ('name = "head"', 'nam = "head"', "nam: unknown key.*did you mean name?"),
        ('watchdog = "off"', "watchdog = -1", "safety.watchdog: bad setting; found -1"),
        ('watchdog = "off"', "watchdogg = 1", "safety.watchdogg: no such setting.*did you mean watchdog?"),
        ('["warn", 50]', '["warm", 50]', "temperature: bad setting; found warm.*did you mean warn?"),
        ('["warn", 50]', "900", "temperature: bad setting; found 900"),
        ('["warn", 50]', "{ stop = [70, -1] }", "temperature: bad setting"),
        ("[[bus]]", "[[[bus]]", "not TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, old, new, words):
    assert old in GOOD
    path = tmp_path / "face.toml"
    path.write_text(GOOD.replace(old, new, 1) if old != "[[bus]]" else GOOD.replace(old, new))
    with pytest.raises(UsageError) as error:
        make_rig(f"face:{path}")
    text = str(error.value)
    assert re.search(words.replace("?", r"\?"), text), text
    assert "\n" not in text


def test_a_face_that_cannot_be_opened_says_which_bus(tmp_path):
    path = tmp_path / "face.toml"
    path.write_text(GOOD)
    with pytest.raises(Exception, match=r"head: /dev/ttyACM0.*no such port"):
        open_rig(str(path))
