"""Which GPUs a session uses, and the sentence that says why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.executors.base import ExecutorError
from pytest_llem.executors.gpu_choice import GpuChoice, choose_gpus
from pytest_llem.executors.gpus import Gpu, Installed
from standin.build import Gpu as Scripted
from standin.build import uuid

OnGpus = Callable[..., Any]

A = Gpu(0, "GPU-5f3a77aa", "H200")
B = Gpu(1, "GPU-5f3a11bb", "H200")
C = Gpu(2, "GPU-9c00d1e2", None)
HERE = Installed((A, B, C))
NOTHING = Installed()
MIG = "MIG-0b1c2d3e"

IDLEST = "gpu_choice.choose_gpus(None, {}, gpus.installed())"


def cuda(value: str) -> dict[str, str]:
    return {"CUDA_VISIBLE_DEVICES": value}


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        ("1", [B]),
        (" 2, 0 ", [C, A]),
        ("GPU-9c00d1e2", [C]),
        ("GPU-9", [C]),
        ("GPU-5f3a1,0", [B, A]),
        ("0,GPU-5f3a77aa", [A]),
        ("none", []),
    ],
)
def test_the_option_names_gpus_by_index_or_uuid(asked: str, chosen: list[Gpu]) -> None:
    """Indexes and beginnings of UUIDs, in the order given and each GPU once; it wins over the environment."""
    choice = choose_gpus(asked, cuda("1") | {"SLURM_JOB_GPUS": "1"}, HERE)
    assert choice.gpus == tuple(chosen)
    assert choice.uuids == tuple(gpu.uuid for gpu in chosen)
    assert choice.visible == ",".join(choice.uuids)


@pytest.mark.parametrize("unknown", ["3", "GPU-aa", "5f3a77aa", "-1", "0,,1", "", "0;1", "all", "none,0"])
def test_a_gpu_that_is_not_here_is_an_error_that_lists_what_is(unknown: str) -> None:
    """A name that fits nothing ends the session before it starts, with the GPUs to choose from."""
    with pytest.raises(ExecutorError) as caught:
        choose_gpus(unknown, {}, HERE)
    message = str(caught.value)
    assert message.startswith("--campaign-gpus names '")
    assert message.endswith(
        ", which is not here: this machine has GPU 0 (H200, GPU-5f3a77aa), GPU 1 (H200, GPU-5f3a11bb),"
        " GPU 2 (name unknown, GPU-9c00d1e2)"
    )


def test_a_beginning_that_fits_two_gpus_is_an_error() -> None:
    """No GPU is guessed, unless the name is one GPU's whole UUID."""
    with pytest.raises(ExecutorError, match="names 'GPU-5f3a', which fits more than one GPU: this machine"):
        choose_gpus("GPU-5f3a", {}, HERE)
    long = Gpu(1, "GPU-5f3a77aa00", None)
    assert choose_gpus("GPU-5f3a77aa", {}, Installed((A, long))).gpus == (A,)


def test_asking_for_a_gpu_where_there_is_none_is_an_error() -> None:
    """The message says why there is none, if that is known."""
    with pytest.raises(ExecutorError, match="names '0', which is not here: this machine has no NVIDIA GPU"):
        choose_gpus("0", {}, NOTHING)
    with pytest.raises(ExecutorError, match="no NVIDIA GPU with a driver; the driver is asleep"):
        choose_gpus(MIG, {}, Installed(problems=("the driver is asleep",)))


@pytest.mark.parametrize("source", ["option", "environment"])
def test_mig_partitions_pass_as_they_are_named(source: str) -> None:
    """A partition goes to slots and engines under its name, beside nothing that NVML would have to know."""
    named = f"{MIG},MIG-GPU-5f3a77aa/1/0"
    choice = choose_gpus(named, {}, HERE) if source == "option" else choose_gpus(None, cuda(named), HERE)
    assert choice.gpus == (Gpu(None, MIG, None), Gpu(None, "MIG-GPU-5f3a77aa/1/0", None))
    assert choice.visible == named
    assert choice.reason.startswith(f"{MIG}, MIG-GPU-5f3a77aa/1/0: as ")


@pytest.mark.parametrize(
    ("value", "chosen"),
    [("1", [B]), ("2,0", [C, A]), ("0,-1,1", [A]), ("1,", [B]), ("", []), ("-1", []), ("NoDevFiles", [])],
)
def test_cuda_visible_devices_is_honoured_as_cuda_reads_it(value: str, chosen: list[Gpu]) -> None:
    """Its list ends at the first entry that is no device; an empty list hides all GPUs from engines too."""
    choice = choose_gpus(None, cuda(value) | {"SLURM_JOB_GPUS": "2"}, HERE)
    assert choice.gpus == tuple(chosen)
    assert choice.visible == ",".join(choice.uuids)
    assert choice.reason.endswith("as CUDA_VISIBLE_DEVICES says")


def test_cuda_visible_devices_with_an_unknown_gpu_is_an_error() -> None:
    """CUDA would go on without it, and a CPU would be measured in its place."""
    with pytest.raises(
        ExecutorError, match="CUDA_VISIBLE_DEVICES names '7', which is not here: this machine"
    ):
        choose_gpus(None, cuda("7"), HERE)


@pytest.mark.parametrize(
    ("environ", "source", "chosen"),
    [
        ({"SLURM_STEP_GPUS": "1", "SLURM_JOB_GPUS": "1,2"}, "SLURM_STEP_GPUS", [B]),
        ({"SLURM_JOB_GPUS": "1,2", "NVIDIA_VISIBLE_DEVICES": "all"}, "SLURM_JOB_GPUS", [B, C]),
        ({"NVIDIA_VISIBLE_DEVICES": "GPU-9c00d1e2"}, "NVIDIA_VISIBLE_DEVICES", [C]),
        ({"SLURM_JOB_GPUS": "", "NVIDIA_VISIBLE_DEVICES": "0"}, "NVIDIA_VISIBLE_DEVICES", [A]),
        ({"SLURM_JOB_GPUS": "5,6,7"}, "SLURM_JOB_GPUS", [A, B, C]),
    ],
)
def test_what_was_allocated_is_honoured(environ: dict[str, str], source: str, chosen: list[Gpu]) -> None:
    """The narrowest allocation counts; where only allocated GPUs can be seen, the host's indexes mean those."""
    choice = choose_gpus(None, environ, HERE)
    assert choice.gpus == tuple(chosen)
    assert choice.reason == f"{', '.join(map(str, chosen))}: as {source} says"


@pytest.mark.parametrize("environ", [{}, cuda("0"), {"SLURM_JOB_GPUS": "0"}])
def test_without_gpus_the_environment_is_left_alone(environ: dict[str, str]) -> None:
    """A variable that names GPUs on a machine without any neither fails the session nor is changed."""
    choice = choose_gpus(None, environ, NOTHING)
    assert choice == GpuChoice((), "no GPU: this machine has no NVIDIA GPU with a driver", None)
    assert choose_gpus("none", environ, NOTHING).visible is None


@pytest.mark.parametrize("value", ["all", "none", "void", ""])
def test_a_single_gpu_is_used_without_asking(value: str) -> None:
    """Words of a container runtime that are no list change nothing."""
    choice = choose_gpus(None, {"NVIDIA_VISIBLE_DEVICES": value}, Installed((B,)))
    assert choice == GpuChoice((B,), "GPU 1 (H200, GPU-5f3a11bb): the only one here", B.uuid, by_default=True)


@pytest.mark.parametrize(
    ("memory", "chosen", "why"),
    [
        (["1000 5", "1000 5", "1000 5"], 0, "idle, of 3 here"),
        (["1000 5 C:41:1", "1000 5", "1000 5"], 1, "idle, of 3 here"),
        (["1000 50", "1000 50", "1000 5"], 2, "idle, of 3 here"),
        (["1000 400 G:41:390", "1000 5 C:42:1", "1000 5 C:43:1"], 0, "idle, of 3 here"),
        (["not supported", "1000 900", "not supported"], 1, "idle, of 3 here"),
        (
            ["1000 50 C:41:1", "1000 20 C:42:1", "1000 30 C:43:1"],
            1,
            "the least used of 3 here, none of them idle",
        ),
        (["not supported"] * 3, 0, "the least used of 3 here, none of them idle"),
    ],
)
def test_of_several_gpus_an_idle_one_is_taken(
    on_gpus: OnGpus, memory: list[str], chosen: int, why: str
) -> None:
    """Idle is where nothing computes; then the least memory used, then the lowest index, decides."""
    choice = on_gpus(IDLEST, *[Scripted()] * 3, memory=memory)
    assert choice.reason == f"GPU {chosen} (Stand-in {chosen}, {uuid(chosen)}): {why}"
    assert choice.visible == uuid(chosen)


def test_a_gpu_whose_slot_is_held_is_not_idle(on_gpus: OnGpus) -> None:
    """A session between two engines computes nothing, and its GPU is not offered to another one."""
    hold = f"[slot := slots.Slot(['{uuid(0)}'], 'other'), slot.acquire(print), {IDLEST}][-1]"
    memory = ["1000 5", "1000 50", "1000 60 C:41:1"]
    choice = on_gpus(hold, *[Scripted()] * 3, memory=memory)
    assert choice.reason == f"GPU 1 (Stand-in 1, {uuid(1)}): idle, of 3 here"


hexadecimal = st.text("0123456789abcdef", min_size=1, max_size=6)


@given(st.lists(hexadecimal, unique=True, min_size=1, max_size=6), st.data())
def test_a_choice_handed_on_is_the_same_choice(digits: list[str], data: st.DataObject) -> None:
    """What engines are given as CUDA_VISIBLE_DEVICES names the very GPUs that were asked for."""
    here = Installed(tuple(Gpu(index, f"GPU-{text}", None) for index, text in enumerate(digits)))
    picked = data.draw(st.lists(st.sampled_from(here.gpus), min_size=1, unique=True))
    asked = [data.draw(st.sampled_from([str(gpu.index), gpu.uuid])) for gpu in picked]
    choice = choose_gpus(",".join(asked), {}, here)
    assert choice.gpus == tuple(picked)
    assert choose_gpus(None, cuda(choice.visible or ""), here).gpus == choice.gpus


@given(st.lists(hexadecimal, unique=True, min_size=1, max_size=6), hexadecimal)
def test_a_beginning_finds_its_gpu_or_is_refused(digits: list[str], beginning: str) -> None:
    """An abbreviated UUID is accepted exactly if one GPU's begins so, or is it."""
    here = Installed(tuple(Gpu(index, f"GPU-{text}", None) for index, text in enumerate(digits)))
    fits = [text for text in digits if text.startswith(beginning)]
    wanted = [beginning] if beginning in digits else fits
    if len(wanted) == 1:
        assert choose_gpus(f"GPU-{beginning}", {}, here).uuids == (f"GPU-{wanted[0]}",)
    else:
        with pytest.raises(ExecutorError):
            choose_gpus(f"GPU-{beginning}", {}, here)
