"""Dotted keys of a rig table: what `RigSpec.with_` and `[ranges]` are written in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from facetwin.twin.errors import UsageError
from facetwin.twin.spec_parts import SERVO, BoxRule, LinearRule
from facetwin.twin.spec_table import suggest


def to_tables(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `RigSpec` as the tables of a file in radians."""

    def plain(thing: Any) -> dict[str, Any]:
        return {k: v for k, v in asdict(thing).items() if v is not None}

    motors = []
    for m in spec["motors"]:
        table = plain(m)
        if m.part is not None:
            table.update(part=m.part.name, axis=m.part.axis, gain=m.part.gain)
        if m.pull is not None:
            table["pull"] = plain(m.pull)
            if m.pull.arc is not None:
                del table["pull"]["travel"]
        motors.append(table)
    rules = []
    for rule in spec["couplings"]:
        rules.append({**plain(rule), ("when" if isinstance(rule, BoxRule) else "weights"): dict(
            rule.when if isinstance(rule, BoxRule) else rule.weights)})  # fmt: skip
    return {
        "name": spec["name"],
        "motors": len(motors),
        "servo": {"feedback": spec["feedback"]},
        "motor": motors,
        "anchor": [plain(a) for a in spec["anchors"]],
        "coupling": rules,
        "camera": {k: plain(c) for k, c in spec["cameras"].items()},
        "material": plain(spec["material"]),
        "skin_time": plain(spec["skin_time"]),
        "limits": dict(spec["limits"]),
        "ranges": dict(spec["ranges"]),
    }


def tables_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """What `RigSpec.to_dict` gave, perhaps by way of JSON, as the tables of a file in radians."""

    def plain(thing: Mapping[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in thing.items() if v is not None}

    motors = []
    for m in content["motors"]:
        table = plain({**m, "part": None, "pull": None})
        if m.get("part") is not None:
            table.update(part=m["part"]["name"], axis=m["part"]["axis"], gain=m["part"]["gain"])
        if m.get("pull") is not None:
            table["pull"] = plain(m["pull"])
            if m["pull"].get("arc") is not None:
                del table["pull"]["travel"]
        motors.append(table)
    rules = []
    for rule in content["couplings"]:
        key = "when" if "when" in rule else "weights"
        rules.append({**plain(rule), key: dict(rule[key])})
    return {
        "name": content["name"],
        "motors": len(motors),
        "servo": {"feedback": content["feedback"]},
        "motor": motors,
        "anchor": [plain(a) for a in content["anchors"]],
        "coupling": rules,
        "camera": {k: plain(c) for k, c in content["cameras"].items()},
        "material": plain(content["material"]),
        "skin_time": plain(content.get("skin_time", {})),
        "limits": dict(content["limits"]),
        "ranges": dict(content["ranges"]),
    }


def flat(changes: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Nested changes as pairs of a dotted key and a value."""
    for key, value in changes.items():
        # The keys of `ranges` are dotted themselves, and rules of couplings are whole.
        if isinstance(value, Mapping) and not (prefix + key).startswith(("ranges", "couplings")):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def put(tree: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Set a dotted key of `to_tables`; raises `UsageError` when it leads nowhere.

    A key that ends in ``.factor`` multiplies what is there, for ``servo.KEY.factor`` that of each motor.
    """
    head, *path = key.split(".")
    head = {"motors": "motor", "anchors": "anchor", "cameras": "camera"}.get(head, head)
    if head == "couplings" and not path:
        rules = [value] if isinstance(value, (BoxRule, LinearRule)) else list(value)
        for i, rule in enumerate(rules):
            if isinstance(rule, BoxRule):
                rules[i] = {"name": rule.name, "why": rule.why, "when": dict(rule.when)}
            elif isinstance(rule, LinearRule):
                rules[i] = {"name": rule.name, "why": rule.why, "weights": dict(rule.weights),
                            "at_most": rule.at_most}  # fmt: skip
        tree["coupling"] = rules
    elif head == "ranges":
        if path:
            tree["ranges"][key.removeprefix("ranges.")] = value
        else:
            tree["ranges"] = dict(value)
    elif path and path[-1] == "factor":
        targets = [key.removesuffix(".factor")]
        if head == "servo" and len(path) == 2 and path[0] in SERVO:
            targets = [f"motor.{motor['name']}.{path[0]}" for motor in tree["motor"]]
        for target in targets:
            now = value_at(tree, target)
            if isinstance(now, bool) or not isinstance(now, (int, float)):
                raise UsageError("no such number to multiply", where=where, found=key)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise UsageError("not a factor", where=f"{where}: {key}", found=value, expected="a number")
            put(tree, target, now * value, where)
    elif head == "servo" and len(path) == 1 and path[0] in SERVO:
        for motor in tree["motor"]:
            motor[path[0]] = value
    elif head in ("motor", "anchor") and len(path) >= 2:
        found = [t for t in tree[head] if t["name"] == path[0]]
        if not found:
            names = [t["name"] for t in tree[head]]
            raise UsageError(f"no such {head}", where=where, found=path[0], hint=suggest(path[0], names))
        _set(found[0], path[1:], value, key, where)
    elif head in tree and head not in ("motor", "anchor", "coupling", "motors"):
        _set(tree, [head, *path], value, key, where)
    else:
        raise UsageError("no such key", where=where, found=key, hint=suggest(head, tree))


def expand(tree: Mapping[str, Any], key: str, where: str) -> list[str]:
    """The keys that ``motor.*.KEY`` and ``anchor.*.KEY`` stand for; any other key stands for itself.

    Only motors and anchors that have such a key are meant; raises `UsageError` when none has.
    """
    head, *path = key.split(".")
    if not path or path[0] != "*":
        return [key]
    names = [table["name"] for table in tree[head]] if head in ("motor", "anchor") else []
    keys = [".".join([head, name, *path[1:]]) for name in names]
    keys = [k for k in keys if value_at(tree, k.removesuffix(".factor")) is not None]
    if not keys:
        raise UsageError("no such key", where=where, found=key, expected="motor.*.KEY or anchor.*.KEY")
    return keys


def value_at(tree: Mapping[str, Any], key: str) -> Any:
    """What stands at a dotted key of `to_tables`, None where nothing does."""
    head, *path = key.split(".")
    at: Any = tree.get(head)
    for step in path:
        if isinstance(at, Mapping):
            at = at.get(step)
        elif isinstance(at, (list, tuple)):
            named = [t for t in at if isinstance(t, Mapping) and t.get("name") == step]
            at = named[0] if named else at[int(step)] if step.isdigit() and int(step) < len(at) else None
        else:
            return None
    return at


def _set(table: Any, path: list[str], value: Any, key: str, where: str) -> None:
    for step in path[:-1]:
        if isinstance(table, (list, tuple)) and step.isdigit() and int(step) < len(table):
            table = table[int(step)]
        elif isinstance(table, dict) and step in table:
            if isinstance(table[step], tuple):
                table[step] = list(table[step])
            table = table[step]
        else:
            raise UsageError("no such key", where=where, found=key)
    if isinstance(table, list):
        if not path[-1].isdigit() or int(path[-1]) >= len(table):
            raise UsageError("no such key", where=where, found=key)
        table[int(path[-1])] = value
    elif isinstance(table, dict):
        table[path[-1]] = value
    else:
        raise UsageError("no such key", where=where, found=key)
