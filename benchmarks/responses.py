"""Steps, chirps and speech: how servos and skin take their time, beside the rig file's numbers.

    python benchmarks/responses.py                      # about a minute; figures and two pictures in docs/
    python benchmarks/responses.py out/demo/recording   # speech from a recording instead of babbled mouthing

Servos are driven alone (`ServoBank`), the skin by steps of its goals (`SkinDynamics`), and the whole as
`facetwin.hardware.sim` does it (`MovingFace`). Every figure in docs/time.md is printed here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from facetwin.cli.progress import track
from facetwin.twin.dynamics import SkinDynamics, skin_modes
from facetwin.twin.moving import MovingFace
from facetwin.twin.servo import ServoBank
from facetwin.twin.spec import RigSpec, SkinTime, load_rig
from facetwin.twin.twin import FaceTwin

DOCS = Path(__file__).resolve().parent.parent / "docs"
TICK = 0.005  # s, SimRig's
SWINGING = 12  # modes, where they are tried
SHUT = 0.5  # mm
SECONDS = 5.0  # of speech
POSES = 24  # babbled


def servo(spec: RigSpec, dt: float = 0.0005) -> dict[str, Any]:
    """Step, chirp and triangle of the jaw's servo, with what they say of the file's numbers."""
    jaw = spec.index("jaw")
    motor = spec.motors[jaw]

    def run(commands: np.ndarray, table: RigSpec = spec) -> np.ndarray:
        bank, command, out = ServoBank(table, dt), table.rest.copy(), []
        command[jaw] = commands[0]
        bank.reset(command)
        for value in commands:
            command[jaw] = value
            out.append(bank.step(command)[jaw])
        return np.array(out)

    t = dt * np.arange(1, round(0.5 / dt) + 1)
    wanted = np.full(len(t), 0.8)
    wanted[0] = 0.1
    step = run(wanted)
    linear = spec.with_({"servo.dead_band": 0.0, "servo.backlash": 0.0})
    first = float(t[np.argmax(run(wanted, linear) > 0.1 + 1e-9)] - 2 * dt)  # told at dt, seen a tick later
    stiff = linear.with_(
        {"servo.natural_frequency": 100.0}
    )  # so that the speed is the limit's, not the lag's
    speed = np.abs(np.diff(run(wanted, stiff))).max() / dt * motor.span
    found: dict[str, Any] = {
        "latency, s": [motor.latency, first],
        "largest speed, rad/s": [motor.max_speed, float(speed)],
    }
    # a chirp of .06 rad: below the speed limit everywhere
    length = 30.0
    times = dt * np.arange(round(length / dt))
    sweep = 0.5 * (25 / 0.5) ** (times / length)
    wave = 0.5 + 0.1 * np.sin(2 * np.pi * np.cumsum(sweep) * dt)
    answer = run(wave, linear)
    # windows that follow the sweep, so that each frequency is taken where it was played
    frequencies = np.geomspace(0.8, 20, 40)
    response = []
    for f in frequencies:
        middle = np.searchsorted(sweep, f)
        half = round(4 / f / dt)
        part = slice(max(middle - half, 0), middle + half)
        window = np.hanning(len(wave[part]))
        probe = window * np.exp(-2j * np.pi * f * times[part])
        response.append((probe @ (answer[part] - 0.5)) / (probe @ (wave[part] - 0.5)))
    gain = np.array(response) * np.exp(-2j * np.pi * frequencies * dt / 2)  # held for a tick
    without = gain * np.exp(2j * np.pi * frequencies * motor.latency)
    phase = np.degrees(np.unwrap(np.angle(without)))
    quarter = float(np.interp(90, -phase, frequencies))
    found["natural frequency, Hz"] = [motor.natural_frequency, quarter]
    height = float(np.interp(quarter, frequencies, np.abs(gain)))
    found["damping ratio"] = [motor.damping_ratio, 1 / (2 * height)]
    z = motor.damping_ratio
    corner = motor.natural_frequency * np.sqrt(1 - 2 * z * z + np.sqrt((1 - 2 * z * z) ** 2 + 1))
    found["-3 dB, Hz"] = [corner, float(np.interp(np.sqrt(2), 1 / np.abs(gain), frequencies))]
    # slow triangle: backlash is the width of the loop; small steps: the dead band
    slow = np.r_[np.linspace(0.4, 0.6, 8000), np.linspace(0.6, 0.4, 8000)]
    loop = run(np.r_[slow, slow], spec.with_({"servo.dead_band": 0.0}))[len(slow) :]
    up, down = loop[:8000], loop[8000:][::-1]
    late = motor.latency + motor.damping_ratio / (np.pi * motor.natural_frequency) - dt / 2  # s
    width = float(np.median(down - up)) - 2 * 0.2 / 8000 / dt * late  # the loop is wider by the lateness
    found["backlash, rad"] = [motor.backlash, width * motor.span]
    steps = np.linspace(0, 3 * motor.dead_band / motor.span, 61)
    plain = spec.with_({"servo.backlash": 0.0})
    moved = [np.ptp(run(np.r_[0.5, np.full(400, 0.5 + s)], plain)) > 1e-9 for s in steps]
    found["dead band, rad"] = [motor.dead_band, float(steps[np.argmax(moved)] * motor.span)]
    curves = {"t": t, "step": step, "f": frequencies, "gain": gain, "triangle": slow, "loop": loop}
    return {"found": found, "curves": curves, "motor": motor}


def skin(twin: FaceTwin, linear: FaceTwin) -> dict[str, Any]:
    """A step of the upper lip's goals: share and time of the creep, with each solver; the lowest modes."""
    spec = twin.spec
    time, found = spec.skin_time, {}
    command = spec.rest.copy()
    command[spec.index("upper_lip_raise")] = 1.0
    t = np.arange(0, 1.5, 0.01)
    for name, face in (("exact", twin), ("linear", linear)):
        at, to = face.move(spec.rest, fresh=True).vertices, face.move(command, fresh=True).vertices
        way = np.linalg.norm(to - at, axis=1)
        free = np.setdiff1d(np.flatnonzero(way > way.max() / 2), face.kinematics.anchored)
        dynamics = SkinDynamics(time, face.face.rest, face.kinematics.anchored)
        dynamics.reset(at)
        shown = np.array([dynamics.step(to, 0.01 if k else 0.0) for k in range(len(t))])
        left = (np.linalg.norm(to - shown, axis=-1)[:, free] / way[free]).mean(1)
        slope = np.polyfit(t[:100], np.log(left[:100]), 1)[0]
        found[f"creep share, {name}"] = [time.creep_share, float(left[0])]
        found[f"creep time, {name}, s"] = [time.creep_time, float(-1 / slope)]
    modes = skin_modes(twin.skin, SWINGING)
    swing = SkinDynamics(SkinTime(modes=SWINGING, mode_damping=time.mode_damping), twin.face.rest,
                         twin.kinematics.anchored, modes)  # fmt: skip
    spot = int(np.linalg.norm(modes.shapes[0, :468], axis=1).argmax())
    push = twin.face.rest + modes.shapes[0] * 1e-3 / np.linalg.norm(modes.shapes[0, spot])
    ring = np.array([(swing.step(push, 0.001 if k else 0.0) - push)[spot] for k in range(300)])
    along = ring @ (modes.shapes[0, spot] / np.linalg.norm(modes.shapes[0, spot]))
    cross = np.flatnonzero(np.diff(np.sign(along)))
    damped = modes.frequencies[0] * np.sqrt(1 - time.mode_damping**2)
    found["lowest mode, damped, Hz"] = [float(damped), float(1 / (2 * np.diff(cross).mean() * 0.001))]
    curves = {"t": t, "left": left, "ring": along * 1e3}
    return {"found": found, "modes": modes, "curves": curves}


def speech(twin: FaceTwin, commands: np.ndarray) -> dict[str, Any]:
    """What creep and swing change of spoken motion, commands [shape=(T, n)] at 50 Hz."""
    spec, modes = twin.spec, skin_modes(twin.skin, SWINGING)
    bank = ServoBank(spec, TICK)
    bank.reset(commands[0])
    way = np.array([bank.step(c) for c in commands for _ in range(round(0.02 / TICK))])
    twin.reset()
    shapes = np.array([twin.move(p).vertices for p in track(way, description="shapes")])
    outer = np.arange(468)
    lips = np.intersect1d(outer, np.unique(np.concatenate(twin._lips)))
    contact = twin.skin.contact
    u = twin.face.metres_per_u
    gap = 1e3 * np.array([twin.gap(x) for x in shapes])
    out: dict[str, Any] = {"seconds": len(way) * TICK, "gap": gap, "t": TICK * np.arange(len(way))}
    kinds = {"creep": spec.skin_time,
             "swing": SkinTime(modes=SWINGING, mode_damping=spec.skin_time.mode_damping)}  # fmt: skip
    for name, time in kinds.items():
        dynamics = SkinDynamics(time, twin.face.rest, twin.kinematics.anchored, modes)
        dynamics.reset(shapes[0])
        shown = np.array([dynamics.step(x, TICK) for x in shapes])
        away = np.linalg.norm(shown - shapes, axis=-1)  # (T, N)
        seen = 1e3 * np.array([twin.gap(x) for x in shown])
        out[name] = {
            "face, mm: mean, p95, largest": _three(1e3 * away[:, outer]),
            "lips, mm: mean, p95, largest": _three(1e3 * away[:, lips]),
            "lips, u: mean": float(away[:, lips].mean() / u),
            "gap, mm: mean, largest change": [float(f(np.abs(seen - gap))) for f in (np.mean, np.max)],
            "share of time shut, quasi-static and seen": [float((g < SHUT).mean()) for g in (gap, seen)],
            "deepest penetration, mm, quasi-static and seen": [
                1e3 * max(contact.penetration(x) for x in s[::4]) for s in (shapes, shown)
            ],
        }  # fmt: skip
        if name == "creep":
            out["seen"] = seen
        # looking seldom: the same shapes, but only those of the looks are known
        errors = {}
        for every in (4, 8, 20, 60):
            face = MovingFace(_Known(twin, way, shapes), time)  # type: ignore[arg-type]
            face.reset(way[0])
            face._shape = face.dynamics.reset(shapes[0])
            wrong = []
            for k in range(every, len(way), every):
                state = face.move(way[k - every + 1 : k + 1], np.full(every, TICK))
                wrong.append(np.linalg.norm(state.vertices - shown[k], axis=-1)[outer])
            errors[f"{1e3 * every * TICK:g} ms"] = _three(1e3 * np.array(wrong))
        out[name]["error of looking every .., mm: mean, p95, largest"] = errors
    return out


def babble(twin: FaceTwin, settle: float = 0.36) -> dict[str, Any]:
    """How far babbled poses still have to creep when they are looked at, `settle` s after the command."""
    spec, rng = twin.spec, np.random.default_rng(0)
    face, bank = MovingFace(twin), ServoBank(spec, TICK)
    free = np.setdiff1d(np.arange(468), twin.kinematics.anchored)
    left, motion, depth, plain = [], [], [], []
    before = twin.face.rest
    for _ in track(range(POSES), description="poses"):
        goal = spec.rest + 0.6 * (rng.random(spec.size) - spec.rest)
        way = np.array([bank.step(goal) for _ in range(round(settle / TICK))])
        state = face.move(way, np.full(len(way), TICK))
        still = twin.move(way[-1]).vertices
        left.append(np.linalg.norm(state.vertices - still, axis=1)[free])
        motion.append(np.linalg.norm(still - before, axis=1)[free])
        depth.append(twin.skin.contact.penetration(state.vertices))  # type: ignore[union-attr]
        plain.append(twin.skin.contact.penetration(still))  # type: ignore[union-attr]
        before = still
    return {
        "motion, mm: mean, p95, largest": _three(1e3 * np.array(motion)),
        "still to creep, mm: mean, p95, largest": _three(1e3 * np.array(left)),
        "still to creep, u: mean": float(np.mean(left) / twin.face.metres_per_u),
        "deepest penetration, mm, quasi-static and seen": [1e3 * max(plain), 1e3 * max(depth)],
    }


def pressed(twin: FaceTwin) -> dict[str, list[float]]:
    """Deepest penetration of lips, mm, pressed hard after wide poses, with more and more creep."""
    spec, rng = twin.spec, np.random.default_rng(1)
    lips, jaw = spec.group("lips"), spec.index("jaw")
    kinds = [spec.skin_time, SkinTime(0.15, 0.3), SkinTime(0.15, 3.0)]
    skins = [SkinDynamics(kind, twin.face.rest, twin.kinematics.anchored) for kind in kinds]
    bank, contact = ServoBank(spec, 2 * TICK), twin.skin.contact  # type: ignore[union-attr]
    depths: list[list[float]] = [[] for _ in range(1 + len(skins))]
    for pose in track(range(16), description="presses"):
        command = spec.rest.copy()
        if pose % 2:
            command[spec.index("upper_lip_raise")] = 0.05 * rng.random()
            command[spec.index("lower_lip_raise")] = 1.0
        else:
            command[lips] += 0.8 * (rng.random(len(lips)) - command[lips])
            command[jaw] = 0.5 * rng.random()
        for _ in range(25):
            x = twin.move(bank.step(command)).vertices
            shown = [x] + [skin.step(x, 2 * TICK) for skin in skins]
            for deep, shape in zip(depths, shown, strict=True):
                deep.append(1e3 * contact.penetration(shape))
    names = ["quasi-static", *(f"creep {k.creep_share:g}, {k.creep_time:g} s" for k in kinds)]
    return {name: [float(np.quantile(d, 0.99)), max(d)] for name, d in zip(names, depths, strict=True)}


class _Known:
    """A twin whose shapes along a way are known already."""

    def __init__(self, twin: FaceTwin, way: np.ndarray, shapes: np.ndarray) -> None:
        from facetwin.twin.twin import State

        self.spec, self.face, self.kinematics, self.skin = twin.spec, twin.face, twin.kinematics, twin.skin
        self.gap = twin.gap
        table = {p.tobytes(): x for p, x in zip(way, shapes, strict=True)}
        self.move = lambda p: State(p, table[np.ascontiguousarray(p).tobytes()], {}, 0.0)


def _three(values: np.ndarray) -> list[float]:
    return [float(values.mean()), float(np.quantile(values, 0.95)), float(values.max())]


def mouthing(spec: RigSpec) -> np.ndarray:
    """Babbled mouth motion at 50 Hz, four poses a second, every other one shut."""
    rng = np.random.default_rng(0)
    keys = np.repeat(spec.rest[None], round(SECONDS * 4) + 2, axis=0)
    lips = spec.group("lips")
    keys[:, lips] += 0.5 * (rng.random((len(keys), len(lips))) - spec.rest[lips])
    keys[::2, spec.index("jaw")] = 0.4 * rng.random(len(keys[::2]))
    t = np.arange(round(SECONDS * 50)) / 12.5
    k, s = t.astype(int), 0.5 - 0.5 * np.cos(np.pi * (t % 1))
    return np.asarray(keys[k] + s[:, None] * (keys[k + 1] - keys[k]))


def recorded(folder: str) -> np.ndarray:
    """The commands sent in a recording, from its third second on."""
    from facetwin.hardware.recording import Recording

    rows = Recording(folder).rows()
    start = rows["time"][0] + 2.0
    times = start + 0.02 * np.arange(round(SECONDS * 50))
    return np.array(
        [rows["sent"][np.searchsorted(rows["time"], t + 1e-9) - 1] for t in times], dtype=np.float64
    )


def draw_servo(s: dict[str, Any]) -> None:
    """docs/pictures/responses_servo.png."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    motor, c = s["motor"], s["curves"]
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4))
    start = motor.latency
    ramp = np.clip((c["t"] - start) * motor.max_speed / motor.span, 0, 0.7) + 0.1
    axes[0].plot(1e3 * c["t"], ramp, color="0.6", lw=1, label="latency and speed of the file")
    axes[0].plot(1e3 * c["t"], c["step"], lw=1.4, label="jaw servo")
    axes[0].set(xlabel="ms after the command", ylabel="command", xlim=(0, 250), title="step .1 to .8")
    w, z, f = 2 * np.pi * motor.natural_frequency, motor.damping_ratio, c["f"]
    ideal = w**2 / ((2j * np.pi * f) ** 2 + 2j * z * w * 2 * np.pi * f + w**2)
    axes[1].semilogx(f, 20 * np.log10(np.abs(ideal)), color="0.6", lw=3, label="file")
    axes[1].semilogx(f, 20 * np.log10(np.abs(c["gain"])), lw=1.2, label="chirp")
    axes[1].axvline(motor.natural_frequency, color="0.8", lw=1)
    axes[1].set(xlabel="Hz", ylabel="dB", title="chirp: gain")
    loop = np.r_[c["loop"], c["loop"][:1]]
    axes[2].plot(
        1e3 * motor.span * (np.r_[c["triangle"], c["triangle"][:1]] - 0.5),
        1e3 * motor.span * (loop - 0.5),
        lw=1.2,
    )
    axes[2].set(
        xlabel="command, mrad",
        ylabel="load, mrad",
        title="slow triangle: backlash",
        xlim=(-30, 30),
        ylim=(-30, 30),
    )
    for axis in axes[:2]:
        axis.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(DOCS / "pictures" / "responses_servo.png", dpi=90)


def draw_skin(spec: RigSpec, k: dict[str, Any], talk: dict[str, Any]) -> None:
    """docs/pictures/responses_skin.png."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4))
    time, c = spec.skin_time, k["curves"]
    axes[0].plot(
        c["t"], 100 * time.creep_share * np.exp(-c["t"] / time.creep_time), color="0.6", lw=3, label="file"
    )
    axes[0].plot(c["t"], 100 * c["left"], lw=1.2, label="free skin of the upper lip")
    axes[0].set(xlabel="s after the step", ylabel="% of the way left", title="step of the goals: creep")
    axes[0].legend(frameon=False, fontsize=8)
    axes[1].plot(np.arange(300), c["ring"], lw=1.2)
    axes[1].set(
        xlabel="ms", ylabel="mm", title=f"lowest mode, {k['modes'].frequencies[0]:.1f} Hz, pushed by 1 mm"
    )
    axes[2].plot(talk["t"], talk["gap"], color="0.6", lw=2.5, label="quasi-static")
    axes[2].plot(talk["t"], talk["seen"], lw=1, label="with creep")
    axes[2].axhline(SHUT, color="0.85", lw=1)
    axes[2].set(xlabel="s", ylabel="mm", title="lip gap while talking", xlim=(1, 3))
    axes[2].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(DOCS / "pictures" / "responses_skin.png", dpi=90)


def main() -> None:
    """Measure, print, draw, write the figures."""
    spec = load_rig()
    talked = sys.argv[1] if len(sys.argv) > 1 else None
    with FaceTwin(spec) as twin, FaceTwin(spec, solver="linear") as linear:
        s, k = servo(spec), skin(twin, linear)
        talk = speech(twin, recorded(talked) if talked else mouthing(spec))
        poses = babble(twin)
        press = pressed(twin)
    facts = {
        "file and measured": {**s["found"], **k["found"]},
        "modes, Hz": k["modes"].frequencies.tolist(),
        f"speech, {talk['seconds']:g} s, {'recorded' if talked else 'babbled mouthing'}": {
            name: talk[name] for name in ("creep", "swing")
        },
        "babble, settle .36 s": poses,
        "hard presses, penetration, mm: 99 %, largest": press,
    }
    text = json.dumps(_rounded(facts), indent=1)
    print(text)
    (DOCS / "responses.json").write_text(text + "\n")
    draw_servo(s)
    draw_skin(spec, k, talk)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
