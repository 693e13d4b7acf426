from __future__ import annotations

import json
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.records import Environment
from pytest_llem.state.environments import Environments
from pytest_llem.state.results import DamagedFileError, ResultStore

DEVICE = {"uuid": "GPU-0", "power_limit_w": 300.0, "pcie_generation": 4}


def environment(**changes: Any) -> Environment:
    fields: dict[str, Any] = {
        "taken_at": datetime(2026, 11, 22, 18, 45, tzinfo=UTC),
        "hostname": "node-7",
        "machine": "x86_64",
        "kernel": "6.1.0",
        "cpu": "EPYC 9654",
        "logical_cpus": 192,
        "memory_bytes": 2**40,
        "governor": "performance",
        "driver": "550.54.14",
        "devices": (DEVICE,),
        "python": "3.11.9",
        "packages": {"torch": "2.7.0"},
        "meters": ("nvml_counter: gpu:GPU-0 (tick 99 ms)",),
    }
    return Environment(**fields | changes)


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "run")


@pytest.mark.parametrize(
    "changes",
    [
        {"taken_at": datetime(2026, 11, 23, tzinfo=UTC)},
        {"meters": ("nvml_counter: gpu:GPU-0 (tick 101 ms)",)},
        {"devices": (DEVICE | {"pcie_generation": 1},)},
    ],
    ids=["time", "tick", "link"],
)
def test_what_is_volatile_makes_no_other_environment(store: ResultStore, changes: dict[str, Any]) -> None:
    """The time of the snapshot, measured ticks and a link that saves power leave the hash as it is."""
    environments = Environments(store)
    assert environments.add(environment(**changes)) == environments.add(environment())
    assert len(environments.known()) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"driver": "560.12"},
        {"devices": (DEVICE | {"power_limit_w": 250.0},)},
        {"devices": ()},
        {"packages": {"torch": "2.8.0"}},
        {"hostname": "node-8"},
        {"image": "sha256:0a1b"},
    ],
    ids=["driver", "power limit", "no GPU", "package", "host", "image"],
)
def test_what_can_change_a_number_makes_another_environment(
    store: ResultStore, changes: dict[str, Any]
) -> None:
    """Each of them is another hash, and both environments are on disk."""
    environments = Environments(store)
    names = {environments.add(environment(**changes)), environments.add(environment())}
    assert len(names) == 2
    assert environments.known().keys() == names


def test_the_host_adds_what_only_it_knows(store: ResultStore) -> None:
    """A container's environment gets the host's name, and each gets the commit of the campaign's repository."""
    environments = Environments(store, "3f2a9c1-dirty")
    first = environments.add(environment(hostname=None))
    second = environments.add(environment())
    known = environments.known()
    assert (known[first]["hostname"], known[second]["hostname"]) == (platform.node(), "node-7")
    assert {one["git_commit"] for one in known.values()} == {"3f2a9c1-dirty"}


def test_another_commit_is_another_environment(store: ResultStore) -> None:
    """The commit of the campaign's repository, which may hold the tests that ran, is in the hash."""
    assert Environments(store, "3f2a9c1").add(environment()) != Environments(store).add(environment())


def test_a_later_session_keeps_what_earlier_ones_wrote(store: ResultStore) -> None:
    """A run that goes on in another session adds to environment.json."""
    first = Environments(store).add(environment())
    second = Environments(store).add(environment(driver="560.12"))
    assert Environments(store).known().keys() == {first, second}


def test_what_is_remembered_is_written_when_it_is_saved(store: ResultStore) -> None:
    """An environment has its hash before it is on disk, so that a measured result need not wait for the disk."""
    environments = Environments(store)
    name = environments.remember(environment())
    assert environments.known() == {}
    environments.save()
    assert environments.known().keys() == {name} == {environments.add(environment())}


def test_a_damaged_file_is_named(store: ResultStore) -> None:
    """A file that is no JSON is refused with its path, and not overwritten."""
    Environments(store).add(environment())
    file = store.folder / "environment.json"
    file.write_text(file.read_text()[:100])
    with pytest.raises(DamagedFileError, match=r"environment\.json is damaged"):
        Environments(store)
    assert len(file.read_text()) == 100


def test_the_file_is_what_the_page_says(store: ResultStore) -> None:
    """environment.json maps hashes to environments with the fields of the record."""
    name = Environments(store).add(environment())
    written = json.loads((store.folder / "environment.json").read_text())
    assert written.keys() == {name}
    assert written[name].keys() == Environment.model_fields.keys()
