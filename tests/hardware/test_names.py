from importlib.metadata import EntryPoint

import pytest
from fakes import FakeTwin, ScriptedRig

from facetwin import assets
from facetwin.hardware import plugins
from facetwin.hardware.names import broken_drivers, make_rig, open_rig, parse_name, schemes
from facetwin.hardware.safety import SafetyLayer
from facetwin.hardware.sim import SimRig
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.spec import load_rig


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("sim:", ("sim", "", {})),
        ("sim:emo23?solver=linear&seed=4", ("sim", "emo23", {"solver": "linear", "seed": 4})),
        ("dynamixel:/dev/ttyUSB0?baud=1000000", ("dynamixel", "/dev/ttyUSB0", {"baud": 1000000})),
        ("a/b.toml?tick=0.01", ("sim", "a/b.toml", {"tick": 0.01})),
        ("x:?on=true", ("x", "", {"on": True})),
    ],
)
def test_names_are_taken_apart(name, parts):
    assert parse_name(name) == parts


def test_a_rig_is_made_from_its_name():
    emo = load_rig("emo23")
    rig = make_rig("sim:emo23?seed=7", twin=FakeTwin(emo))
    assert isinstance(rig, SimRig)
    assert (rig.spec.name, rig.seed, rig.status.state) == ("emo23", 7, "closed")
    path = assets.path("rigs", "face26.toml")
    with open_rig(
        str(path), twin=FakeTwin(load_rig("face26")), size=(24, 16), safety={"watchdog": None}
    ) as safe:
        assert isinstance(safe, SafetyLayer)
        assert safe.status.state == "open"
        assert safe.spec.size == 26
        assert safe.watchdog is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("smi:", "did you mean sim:?"),
        ("face26", "did you mean sim:face26?"),
        ("", "not the name of a rig"),
        ("sim:face62", "did you mean face26?"),
        ("sim:?sede=1", "did you mean seed?"),
        ("sim:?seed=x", "bad seed"),
        ("sim:?seed=1&seed=2", "option given twice"),
        ("sim:?nonsense", "wrong options"),
        ("gone.toml", "no such rig file"),
    ],
)
def test_wrong_names_are_answered(name, words):
    with pytest.raises(UsageError) as error:
        open_rig(name)
    assert words in str(error.value)


def test_a_broken_plugin_stops_nobody_else(monkeypatch):
    rigs = {
        "broken": EntryPoint("broken", "no_such_module_here:Rig", plugins.RIGS),
        "fakes": EntryPoint("fakes", "fakes:ScriptedRig", plugins.RIGS),
        "sim": EntryPoint("sim", "facetwin.hardware.sim:SimRig", plugins.RIGS),
    }
    monkeypatch.setattr(plugins, "entry_points", lambda group: rigs.values())
    assert list(schemes()) == ["broken", "fakes", "sim"]
    with pytest.raises(FaceTwinError, match=r"broken: .*ModuleNotFoundError.*no_such_module_here"):
        open_rig("broken:")
    assert set(broken_drivers()) == {"broken"}
    with open_rig("fakes:") as rig:
        assert isinstance(rig.inner, ScriptedRig)
