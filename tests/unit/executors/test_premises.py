"""What rules are told of the machine, by where experiments run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.campaign.host import Device, Host
from pytest_llem.campaign.schema import Service
from pytest_llem.executors.gpus import Gpu, Installed
from pytest_llem.executors.placement import place
from pytest_llem.executors.premises import OPTIONAL_MODULES, host_of

NO_GPUS = Installed()


def told(here: Installed = NO_GPUS, *, executor: str = "local", **more: Any) -> Host | None:
    """Return what is known of a machine with these GPUs, which no driver answers for."""
    services, environ = more.get("services", {}), more.get("environ", {})
    placement = place(more.get("gpus"), services, environ, here)
    return host_of(
        here,
        placement,
        services,
        ["one", "two"],
        executor=executor,
        rootdir=more.get("rootdir", Path.cwd()),
        environ=environ,
    )


def test_a_machine_without_gpus_is_known_to_have_none() -> None:
    """No driver is an answer: there is no GPU."""
    host = told()
    assert host is not None
    assert (host.devices, host.of("one", None)) == ((), ())


def test_a_driver_that_does_not_answer_leaves_the_machine_unknown() -> None:
    """A broken driver hides GPUs that may be there."""
    assert told(Installed(problems=("the NVIDIA driver does not answer",))) is None


@pytest.mark.parametrize(
    ("environ", "known"),
    [
        ({}, True),
        ({"DOCKER_HOST": "unix:///run/user/1000/docker.sock"}, True),
        ({"DOCKER_HOST": "ssh://gpu-server"}, False),
        ({"DOCKER_HOST": "tcp://10.0.0.2:2375"}, False),
        ({"DOCKER_CONTEXT": "gpu-server"}, False),
    ],
)
def test_containers_may_run_on_another_machine(environ: dict[str, str], known: bool) -> None:
    """What NVML shows here counts for child processes, and for containers of an engine that is here."""
    assert (told(executor="compose", environ=environ) is not None) == known
    assert told(executor="local", environ=environ) is not None


def test_modules_are_those_of_the_interpreter_that_will_run(tmp_path: Path) -> None:
    """A backend with an interpreter of its own has the packages of that one, and of a broken one none is known."""
    lean = tmp_path / "lean" / "bin" / "python"
    lean.parent.mkdir(parents=True)
    lean.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    lean.chmod(0o755)
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "kernels.py").touch()
    for one, two in (
        (Service(env={"PYTHONPATH": str(packages)}), Service(python="lean/bin/python")),
        (Service(python=sys.executable, env={"PYTHONPATH": str(packages)}), Service(python=str(lean))),
    ):
        host = told(services={"one": one, "two": two}, rootdir=tmp_path)
        assert host is not None
        assert host.has_module("one", "kernels") is True
        assert host.has_module("two", "kernels") is False
        assert host.has_module("one", "something_else") is None
    broken = told(services={"one": Service(python="/elsewhere/python"), "two": Service(python="/bin/false")})
    assert broken is not None
    assert {broken.has_module(name, "kernels") for name in ("one", "two")} == {None}


@pytest.mark.parametrize("executor", ["compose", "auto"])
def test_the_modules_of_an_image_are_not_known(executor: str) -> None:
    """What a container holds is not looked into before it runs."""
    host = told(executor=executor)
    assert host is not None
    assert {host.has_module("one", name) for name in OPTIONAL_MODULES} == {None}


def test_the_cache_of_models_is_that_of_the_session() -> None:
    """Models that were fetched before are looked for where the hub's client of this session has them."""
    host = told(environ={"HF_HOME": "/large/disk"})
    assert host is not None
    assert host.hub == Path("/large/disk/hub")


def test_a_service_has_the_gpus_that_it_works_on() -> None:
    """Those of its `devices`, else those of the session; a point may name others of the machine by index or UUID."""
    gpus = (Gpu(0, "GPU-a", "A"), Gpu(1, "GPU-b", "B"))
    host = told(
        Installed(gpus),
        gpus=None,
        services={"two": Service(devices=("1",))},
        environ={"CUDA_VISIBLE_DEVICES": "0"},
    )
    assert host is not None
    assert host.of("one", None) == (Device(None, "GPU-a"),)
    assert host.of("two", None) == (Device(None, "GPU-b"),)
    known = Host(tuple(Device(gpu.index, gpu.uuid) for gpu in gpus))
    assert known.of("one", (1,)) == known.of("one", ("GPU-b",)) == (Device(1, "GPU-b"),)
