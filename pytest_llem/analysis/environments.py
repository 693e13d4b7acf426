"""What became another machine or other software within a run, in sentences for the reader of its table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from pytest_llem.analysis.observations import Observation, Unit
from pytest_llem.records import VOLATILE

Environment = Mapping[str, Any]

_WORDS = MappingProxyType(
    {
        "hostname": "host",
        "c_library": "C library",
        "cpu": "CPU",
        "logical_cpus": "logical CPUs",
        "smt": "SMT",
        "numa_nodes": "NUMA nodes",
        "max_cpu": "highest CPU clock",
        "cpu_limit": "CPU limit",
        "cuda_driver": "CUDA driver",
        "git_commit": "commit",
        "vbios": "VBIOS",
        "ecc": "ECC",
        "mig": "MIG",
        "max_sm_clock": "highest SM clock",
        "max_memory_clock": "highest memory clock",
        "pcie_width": "PCIe width",
        "max_pcie_width": "largest PCIe width",
        "max_pcie_generation": "newest PCIe generation",
    }
)
"""Keys of environment.json, without their unit, that read badly with spaces for underscores."""

_UNITS = MappingProxyType({"_w": "W", "_mhz": "MHz", "_bytes": "GiB"})


class _Change(NamedTuple):
    """One environment after another one, of one backend."""

    differences: str
    backend: str
    first: Observation


def changes(
    observations: Iterable[Observation], environments: Mapping[str, Environment], unit: Unit = "cycle"
) -> tuple[str, ...]:
    """Return a sentence for each way in which an environment changed between two experiments of a backend.

    Backends have different environments side by side, which is no change. What is not known before or after
    is none either.

    Args:
        observations: in order of time.
        environments: by hash, as in environment.json.
        unit: what `Observation.cycle` counts.
    """
    latest: dict[str, Observation] = {}
    found: defaultdict[str, list[_Change]] = defaultdict(list)
    for one in observations:
        if one.environment is None or one.environment not in environments:
            continue
        before = latest.get(one.backend)
        latest[one.backend] = one
        if before is not None and before.environment != one.environment:
            pair = environments[str(before.environment)], environments[one.environment]
            if differences := ", ".join(_differences(*pair)):
                found[differences].append(_Change(differences, one.backend, one))
    return tuple(_sentence(same, backends=len(latest), unit=unit) for same in found.values())


def _sentence(same: Sequence[_Change], *, backends: int, unit: Unit) -> str:
    """Return one sentence for equal changes; it names the backends if it did not happen to all of them."""
    first = same[0].first
    changed = list(dict.fromkeys(change.backend for change in same))
    whose = "" if len(changed) == backends else f" of {', '.join(changed)}"
    at = datetime.fromtimestamp(first.started_at, UTC)
    again = len(same) - len(changed)
    more = f", and {again} more time{'s' if again > 1 else ''}" if again else ""
    return (
        f"Environment{whose} changed within the {'run' if unit == 'cycle' else 'series'}: {same[0].differences}"
        f" ({unit} {first.cycle} on, {at:%Y-%m-%d %H:%M} UTC{more})"
    )


def _differences(before: Environment, after: Environment) -> Iterator[str]:
    for key in after:
        if key in VOLATILE or key in ("packages", "devices"):
            continue
        yield from _difference(key, before.get(key), after[key])
    yield from _of_packages(before.get("packages", {}), after.get("packages", {}))
    yield from _of_devices(before.get("devices", []), after.get("devices", []))


def _difference(key: str, before: Any, after: Any) -> Iterator[str]:
    if before is None or after is None or before == after:
        return
    name, unit = _named(key)
    old, new = (_shown(key, value) for value in (before, after))
    if old != new:
        yield f"{name} {old} -> {new}{unit}"


def _of_packages(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            yield f"{name} {before.get(name, 'not installed')} -> {after.get(name, 'not installed')}"


def _of_devices(before: Sequence[Environment], after: Sequence[Environment]) -> Iterator[str]:
    """Yield other GPUs; of those that stayed what was set otherwise, equal changes of several once."""
    olds, news = ({device["uuid"]: device for device in devices} for devices in (before, after))
    if olds.keys() != news.keys():
        yield f"GPU {_listed(olds, news)} -> {_listed(news, olds)}"
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for uuid in olds.keys() & news.keys():
        for key in news[uuid].keys() - VOLATILE:
            for difference in _difference(key, olds[uuid].get(key), news[uuid][key]):
                alike[f"GPU {difference}"].append(uuid)
    for difference, uuids in sorted(alike.items()):
        yield difference if len(uuids) == len(olds) else f"{difference} of {', '.join(sorted(uuids))}"


def _listed(devices: Mapping[str, Environment], others: Mapping[str, Environment]) -> str:
    """Return the devices that are not among the others, by name and UUID."""
    gone = [
        f"{device.get('name') or 'unnamed'} ({uuid})"
        for uuid, device in devices.items()
        if uuid not in others
    ]
    return ", ".join(gone) or "none"


def _named(key: str) -> tuple[str, str]:
    """Return the words for a key, and its unit with a space before it."""
    for suffix, unit in _UNITS.items():
        if key.endswith(suffix):
            bare = key.removesuffix(suffix)
            return _WORDS.get(bare, bare.replace("_", " ")), f" {unit}"
    return _WORDS.get(key, key.replace("_", " ")), ""


def _shown(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if key.endswith("_bytes"):
        return f"{value / 2**30:.1f}"
    if isinstance(value, float):
        return f"{value:g}"
    if key == "git_commit":
        commit, _, dirty = value.partition("-")
        return f"{commit[:8]}-{dirty}" if dirty else commit[:8]
    return str(value).removeprefix("sha256:")[:12] if key == "image" else str(value)
