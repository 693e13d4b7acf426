"""Which GPUs services and configurations of a session work on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.campaign.schema import Service
from pytest_llem.executors.gpus import Gpu, Installed
from pytest_llem.executors.placement import Placement, place
from pytest_llem.records import Configuration

FOUR = Installed(tuple(Gpu(index, f"GPU-{index}", "H200") for index in range(4)))
ONE = Installed(FOUR.gpus[:1])

Gpus = tuple[int | str, ...] | None


def wanted(*gpus: Gpus, backend: str = "abacus") -> list[Configuration]:
    return [Configuration(backend=backend, gpus=one) for one in gpus]


def placed(
    *gpus: Gpus, asked: str | None = None, here: Installed = FOUR, visible: str | None = None
) -> Placement:
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    return place(asked, {}, environ, here, wanted(*gpus))


def uuids(*indexes: int) -> tuple[str, ...]:
    return tuple(f"GPU-{index}" for index in indexes)


@given(st.lists(st.lists(st.integers(0, 3), unique=True).map(tuple) | st.none(), max_size=5))
def test_every_configuration_has_what_it_names_and_the_slot_has_all_of_it(gpus: list[Gpus]) -> None:
    """Of GPUs that an option names, each configuration has its own, and nothing is locked beside them."""
    found = placed(*gpus, asked="0,1,2,3")
    for one, configuration in zip(gpus, wanted(*gpus), strict=True):
        assert found.devices(configuration) == (None if one is None else uuids(*map(int, one)))
    assert tuple(found.uuids(["abacus"])) == uuids(0, 1, 2, 3)
    assert found.problems_of(wanted(*gpus)) == []


def test_where_nobody_names_gpus_the_experiments_do() -> None:
    """Without option and environment a service has all that its configurations name, and no more."""
    found = placed((3,), ("GPU-1",), here=Installed(FOUR.gpus))
    assert tuple(found.uuids(["abacus"])) == uuids(1, 3)
    assert found.of("abacus").reason.endswith("as gpus of its experiments says")


def test_those_that_name_nothing_have_the_gpus_of_the_session() -> None:
    """One configuration on the GPU that was chosen for the session, one on its own: the slot is both."""
    found = placed((0,), None, here=ONE)
    assert tuple(found.uuids(["abacus"])) == uuids(0)
    assert found.devices(Configuration(backend="abacus")) is None


@pytest.mark.parametrize(
    ("asked", "visible", "gpus", "problem"),
    [
        ("0", None, (1,), "gpus of abacus names GPU 1 (H200, GPU-1), which is not in use here"),
        (None, "2", (1,), "as CUDA_VISIBLE_DEVICES says"),
        ("none", None, (1,), "no GPU, as --campaign-gpus says"),
        ("0,1,2,3", None, (4,), "gpus of abacus names '4', which is not here"),
    ],
)
def test_what_somebody_else_ruled_out_is_a_problem(
    asked: str | None, visible: str | None, gpus: Gpus, problem: str
) -> None:
    """GPUs beside those of option and environment, or of the machine, are told as a problem of that configuration."""
    found = placed(gpus, None, asked=asked, visible=visible)
    (told,) = found.problems_of(wanted(gpus))
    assert problem in told
    assert found.problems_of(wanted(None)) == []


def test_a_machine_without_a_gpu_has_none_to_name() -> None:
    """A campaign for GPUs is collected on a machine without one, and says what it lacks."""
    (told,) = placed((0,), here=Installed()).problems_of(wanted((0,)))
    assert told == "gpus of abacus names '0', which is not here: this machine has no NVIDIA GPU with a driver"


def test_devices_of_a_service_bound_its_experiments() -> None:
    """`services.<backend>.devices` counts as named: its experiments choose among those GPUs."""
    services = {"abacus": Service(devices=("1", "2"))}
    found = place(None, services, {}, FOUR, wanted((2,), (3,)))
    assert found.devices(wanted((2,))[0]) == uuids(2)
    assert len(found.problems_of(wanted((3,)))) == 1
    assert tuple(found.uuids(["abacus"])) == uuids(1, 2)
