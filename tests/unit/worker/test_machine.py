"""What is read of the kernel's files, in trees that are written here, and on this machine."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.meters.inventory import Inventory
from pytest_llem.records import Environment
from pytest_llem.worker.environment import snapshot
from pytest_llem.worker.machine import (
    NO_LIMIT_BYTES,
    Limits,
    Processors,
    cgroup_limits,
    container,
    processors,
)


def write(root: Path, files: dict[str, object]) -> Path:
    """Write a tree of small files, as the kernel shows them."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


# --- Processors ---


def test_two_sockets_are_counted(tmp_path: Path) -> None:
    """Sockets, NUMA nodes, the fastest core's clock, the governors and SMT are those of the tree."""
    cpu = "devices/system/cpu"
    files: dict[str, object] = {f"{cpu}/smt/active": 1, "devices/system/node/node0/x": 0}
    files |= {f"{cpu}/cpu{n}/topology/physical_package_id": n % 2 for n in range(4)}
    files |= {f"{cpu}/cpu{n}/cpufreq/cpuinfo_max_freq": 2_800_000 + 100_000 * n for n in range(4)}
    files |= {f"{cpu}/cpu{n}/cpufreq/scaling_governor": "performance" for n in range(3)}
    files |= {f"{cpu}/cpu3/cpufreq/scaling_governor": "powersave"}
    found = processors(write(tmp_path, files))
    assert found == Processors(
        sockets=2, numa_nodes=1, max_mhz=3100.0, governor="performance, powersave", smt=True
    )


def test_what_a_virtual_machine_hides_is_not_known(tmp_path: Path) -> None:
    """Without the kernel's files nothing is known, and nothing is assumed."""
    assert processors(tmp_path) == Processors(None, None, None, None, None)


# --- Containers ---


@pytest.mark.parametrize(
    ("files", "variables", "kind"),
    [
        ({}, {}, None),
        ({".dockerenv": ""}, {}, "docker"),
        ({"run/.containerenv": ""}, {"container": "podman"}, "podman"),
        ({".dockerenv": ""}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
        ({}, {"APPTAINER_CONTAINER": "/images/a.sif"}, "apptainer"),
        ({}, {"container": "lxc"}, "lxc"),
    ],
)
def test_a_container_is_known_by_its_marks(
    tmp_path: Path, files: dict[str, object], variables: dict[str, str], kind: str | None
) -> None:
    """The marks that engines leave in their containers tell the kind; without one it is none."""
    assert container(write(tmp_path, files), variables) == kind


# --- Control groups ---


@given(quotas=st.lists(st.none() | st.integers(1_000, 10_000_000), min_size=3, max_size=3))
def test_the_tightest_group_limits(
    tmp_path_factory: pytest.TempPathFactory, quotas: list[int | None]
) -> None:
    """Of a group and all above it (version 2) the smallest quota counts; `max` is no limit."""
    root = tmp_path_factory.mktemp("groups")
    folders = ["fs/cgroup", "fs/cgroup/job", "fs/cgroup/job/step"]
    files = {
        f"{folder}/cpu.max": f"{quota or 'max'} 100000" for folder, quota in zip(folders, quotas, strict=True)
    }
    membership = write(root, {**files, "membership": "0::/job/step"}) / "membership"
    limited = [quota / 100_000 for quota in quotas if quota is not None]
    assert cgroup_limits(root, membership).cpus == min(limited, default=None)


def test_the_memory_of_a_group_is_limited(tmp_path: Path) -> None:
    """A limit on memory in bytes is read from version 2."""
    write(tmp_path, {"fs/cgroup/job/memory.max": 1 << 30, "membership": "0::/job"})
    assert cgroup_limits(tmp_path, tmp_path / "membership") == Limits(None, 1 << 30)


def test_the_first_version_of_control_groups_is_read(tmp_path: Path) -> None:
    """In a container of version 1, whose groups are named but not shown, the limits lie at the root."""
    write(
        tmp_path,
        {
            "fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": 150_000,
            "fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": 100_000,
            "fs/cgroup/memory/memory.limit_in_bytes": 1 << 28,
            "membership": "5:cpu,cpuacct:/docker/0a1b\n4:memory:/docker/0a1b\n1:name=systemd:/",
        },
    )
    assert cgroup_limits(tmp_path, tmp_path / "membership") == Limits(1.5, 1 << 28)


def test_no_limit_of_the_first_version_is_none(tmp_path: Path) -> None:
    """The large number and the -1 by which version 1 says "no limit" are no limits."""
    write(
        tmp_path,
        {
            "fs/cgroup/cpu/cpu.cfs_quota_us": -1,
            "fs/cgroup/cpu/cpu.cfs_period_us": 100_000,
            "fs/cgroup/memory/memory.limit_in_bytes": NO_LIMIT_BYTES,
            "membership": "2:cpu:/\n1:memory:/",
        },
    )
    assert cgroup_limits(tmp_path, tmp_path / "membership") == Limits(None, None)


def test_a_machine_without_control_groups_has_no_limits(tmp_path: Path) -> None:
    """Where the kernel says nothing of groups there are no limits."""
    assert cgroup_limits(tmp_path, tmp_path / "membership") == Limits(None, None)


# --- The snapshot ---


def test_this_machine_is_described() -> None:
    """The snapshot of this machine says what other sources say, and survives its way through JSON."""
    begin = datetime.now(UTC)
    gpus = Inventory("550.54.14", "12.4", ({"uuid": "GPU-0"},))
    taken = snapshot(["pydantic", "no-such-package"], ["rapl: cpu"], gpus, ["a note"])
    assert taken.taken_at is not None
    assert begin <= taken.taken_at <= datetime.now(UTC)
    assert (taken.kernel, taken.logical_cpus) == (platform.release(), os.cpu_count())
    assert (taken.cores, taken.memory_bytes) == (
        psutil.cpu_count(logical=False),
        psutil.virtual_memory().total,
    )
    assert (taken.driver, taken.cuda_driver, taken.devices) == tuple(gpus)
    assert taken.packages.keys() == {"pydantic"}
    assert Environment.model_validate_json(taken.model_dump_json()) == taken


def test_a_container_does_not_know_the_name_of_its_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name that a container has of itself, an id, is not taken for that of the machine."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    taken = snapshot([], [], Inventory())
    assert (taken.container, taken.hostname) == ("kubernetes", None)
