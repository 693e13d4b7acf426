"""How a change of machine or software within a run is told."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_llem.analysis.environments import changes
from pytest_llem.analysis.observations import Observation
from pytest_llem.campaign.schema import Confidence
from unit.analysis.analysis_samples import expected, observation

A100 = {"uuid": "GPU-a", "name": "A100", "power_limit_w": 300.0, "ecc": True, "pcie_generation": 4}
H100 = {"uuid": "GPU-h", "name": "H100", "power_limit_w": 700.0, "ecc": True, "pcie_generation": 5}
OLD = {"hostname": "node-7", "driver": "550.54.14", "packages": {"torch": "2.7.0"}, "devices": [A100]}


def seen(*environments: str | None, backend: str = "pytorch", first_cycle: int = 1) -> list[Observation]:
    """Return one observation a cycle, each in one of the environments."""
    return [
        observation(1.0, cycle=cycle, backend=backend, environment=environment)
        for cycle, environment in enumerate(environments, first_cycle)
    ]


def differences(new: dict[str, Any], old: dict[str, Any] | None = None) -> str:
    """Return what is said of an environment after another one; nothing where nothing is said."""
    told = changes(seen("old", "new"), {"old": OLD if old is None else old, "new": OLD | new})
    return told[0].partition("run: ")[2].partition(" (cycle")[0] if told else ""


def test_a_change_is_told_with_cycle_and_time() -> None:
    """The sentence says what changed, from what to what, and from which cycle on."""
    environments = {"old": OLD, "new": OLD | {"driver": "560.12"}}
    assert changes(seen("old", "old", "new"), environments) == (
        "Environment changed within the run: driver 550.54.14 -> 560.12 (cycle 3 on, 1970-01-01 00:05 UTC)",
    )


@pytest.mark.parametrize(
    ("new", "told"),
    [
        ({"hostname": "node-8"}, "host node-7 -> node-8"),
        ({"packages": {"torch": "2.8.0"}}, "torch 2.7.0 -> 2.8.0"),
        ({"packages": {"torch": "2.7.0", "triton": "3.2"}}, "triton not installed -> 3.2"),
        ({"devices": [H100]}, "GPU A100 (GPU-a) -> H100 (GPU-h)"),
        ({"devices": [A100, H100]}, "GPU none -> H100 (GPU-h)"),
        ({"devices": []}, "GPU A100 (GPU-a) -> none"),
        ({"devices": [A100 | {"power_limit_w": 250.0}]}, "GPU power limit 300 -> 250 W"),
        ({"devices": [A100 | {"ecc": False}]}, "GPU ECC on -> off"),
        ({"driver": "560.12", "hostname": "node-8"}, "host node-7 -> node-8, driver 550.54.14 -> 560.12"),
    ],
)
def test_what_differs_is_named_in_words(new: dict[str, Any], told: str) -> None:
    """Keys become words, values keep their unit, GPUs are known by name and UUID."""
    assert differences(new) == told


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ({"memory_bytes": 2**40}, {"memory_bytes": 2**39}, "memory 1024.0 -> 512.0 GiB"),
        ({"memory_bytes": 2**40}, {"memory_bytes": 2**40 + 4096}, ""),
        ({"max_cpu_mhz": 3100.0}, {"max_cpu_mhz": 2800.0}, "highest CPU clock 3100 -> 2800 MHz"),
        ({"image": f"sha256:{'a' * 64}"}, {"image": f"sha256:{'b' * 64}"}, f"image {'a' * 12} -> {'b' * 12}"),
        (
            {"git_commit": "a" * 40},
            {"git_commit": f"{'b' * 40}-dirty"},
            "commit aaaaaaaa -> bbbbbbbb-dirty",
        ),
        ({"smt": True}, {"smt": False}, "SMT on -> off"),
    ],
)
def test_values_are_shown_as_people_write_them(old: dict[str, Any], new: dict[str, Any], told: str) -> None:
    """Bytes are GiB, hashes are short; what looks the same is not told."""
    assert differences(new, OLD | old) == told


@pytest.mark.parametrize(
    "new",
    [
        {"taken_at": "2026-11-22T18:45:00Z"},
        {"meters": ["rapl"]},
        {"driver": None},
        {"kernel": "6.1.0"},
        {"devices": [A100 | {"pcie_generation": 1}]},
        {"devices": [A100 | {"ecc": None}]},
    ],
    ids=["time", "meters", "not known", "known since", "link", "GPU does not tell"],
)
def test_what_is_volatile_or_not_known_is_no_change(new: dict[str, Any]) -> None:
    """Nothing is told of what changes by itself, nor of what is not known before or after."""
    assert differences(new) == ""


def test_equal_changes_of_gpus_are_told_once() -> None:
    """What was set alike on all GPUs needs no UUIDs; what was set on some names them."""
    gpus = [A100, A100 | {"uuid": "GPU-b"}]
    lower = [gpu | {"power_limit_w": 250.0} for gpu in gpus]
    assert differences({"devices": lower}, OLD | {"devices": gpus}) == "GPU power limit 300 -> 250 W"
    one = differences({"devices": [gpus[0], lower[1]]}, OLD | {"devices": gpus})
    assert one == "GPU power limit 300 -> 250 W of GPU-b"


def test_two_backends_side_by_side_are_no_change() -> None:
    """Each backend has an environment of its own; they are compared with themselves alone."""
    environments = {"one": OLD, "two": OLD | {"packages": {"vllm": "0.8"}}}
    both = [*seen("one"), *seen("two", backend="vllm"), *seen("one", first_cycle=2)]
    assert changes(both, environments) == ()


def test_a_change_of_all_backends_is_told_once() -> None:
    """The same change under every backend is one sentence; under some it names them."""
    new = OLD | {"driver": "560.12"}
    environments = {"old": OLD, "new": new}
    every = [*seen("old", "new"), *seen("old", "new", backend="vllm")]
    assert [told.partition(":")[0] for told in changes(every, environments)] == [
        "Environment changed within the run"
    ]
    some = [*seen("old", "new"), *seen("old", "old", backend="vllm")]
    assert changes(some, environments)[0].startswith("Environment of pytorch changed within the run: driver")


def test_a_change_to_and_fro_is_counted() -> None:
    """A change that comes again is told with its first cycle and how often it came."""
    environments = {"old": OLD, "new": OLD | {"driver": "560.12"}}
    there, back = changes(seen("old", "new", "old", "new", "old", "new"), environments)
    assert "550.54.14 -> 560.12 (cycle 2 on" in there
    assert there.endswith(", and 2 more times)")
    assert "560.12 -> 550.54.14 (cycle 3 on" in back
    assert back.endswith(", and 1 more time)")


def test_an_environment_that_is_not_known_is_passed_over() -> None:
    """Experiments that never reached a service, or whose environment is lost, say nothing."""
    environments = {"old": OLD, "new": OLD | {"driver": "560.12"}}
    assert changes(seen("old", None, "lost", "old"), environments) == ()
    assert "cycle 4 on" in changes(seen("old", None, "lost", "new"), environments)[0]


def test_a_summary_tells_the_change() -> None:
    """The sentence is among those that belong beside the table."""
    from pytest_llem.analysis.summary import summarise

    summary = summarise(
        seen("old", "new"),
        expected("a"),
        confidence=Confidence(),
        environments={"old": OLD, "new": OLD | {"driver": "560.12"}},
    )
    assert any("driver 550.54.14 -> 560.12" in message for message in summary.messages)
