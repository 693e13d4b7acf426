"""What rules are told of the machine, by where experiments run."""

from __future__ import annotations

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
    return host_of(here, placement, services, ["one", "two"], executor=executor, environ=environ)


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


def test_modules_are_known_of_this_interpreter_alone() -> None:
    """A backend with an interpreter of its own, and one in a container, may have other packages."""
    host = told(services={"two": Service(python="/elsewhere/python")})
    assert host is not None
    assert host.has_module("one", OPTIONAL_MODULES[0]) in (True, False)
    assert host.has_module("two", OPTIONAL_MODULES[0]) is None
    assert host.has_module("one", "something_else") is None
    contained = told(executor="compose")
    assert contained is not None
    assert contained.has_module("one", OPTIONAL_MODULES[0]) is None


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
