"""Rules in whole sessions: what is known of the machine decides what runs, and the header says why."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from standin.build import Gpu, build_nvml, environment, facts

Machine = Callable[..., None]

LLAMA = {
    "model_type": "llama",
    "num_hidden_layers": 16,
    "hidden_size": 2048,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 8192,
    "vocab_size": 128_256,
    "tie_word_embeddings": True,
}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """Return a function that gives this machine GPUs of these compute capabilities, with 4 GiB each."""

    def machine(*capabilities: str) -> None:
        folder = tmp_path_factory.mktemp("nvml")
        (folder / "memory").write_text("4096 0\n" * len(capabilities))
        told = [{"capability": capability} for capability in capabilities]
        variables = {
            **environment(build_nvml(folder), folder / "script", [Gpu()] * len(capabilities)),
            **facts(folder / "facts", {}, *told),
            "NVML_STANDIN_MEMORY": str(folder / "memory"),
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return machine


def collected(pytester: pytest.Pytester, text: str, *options: str) -> pytest.RunResult:
    """Return the validation of a campaign."""
    folder = pytester.path / "llama"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(LLAMA))
    (pytester.path / "grid.yaml").write_text(
        f"campaign_name: c\nmodel: random:llama\nnum_samples: 10000\n{text}"
    )
    return pytester.runpytest_subprocess(
        "--campaign=grid.yaml", "--collect-only", "--campaign-executor=local", *options
    )


FP8 = """
grid:
  backends: [vllm]
  shared: {kv_cache_dtype: [auto, fp8], max_num_seqs: [8]}
"""
NEEDS_ADA = "an fp8 KV cache needs a GPU of compute capability 8.9 (Ada, Hopper)"


def test_a_gpu_that_cannot_is_known(pytester: pytest.Pytester, machine: Machine) -> None:
    """On an Ampere GPU the points with an fp8 cache never run, on an Ada GPU they do."""
    machine("8.6")
    done = collected(pytester, FP8)
    done.stdout.fnmatch_lines(
        ["Generated 2 configurations: 1 valid, 1 filtered, *", f"  filtered 1: {NEEDS_ADA}"]
    )
    machine("8.9")
    collected(pytester, FP8).stdout.fnmatch_lines(
        ["Generated 2 configurations: 2 valid, 0 filtered, 0 warned*"]
    )


def test_without_a_gpu_the_points_are_warned(pytester: pytest.Pytester, machine: Machine) -> None:
    """A machine without GPUs collects a grid for one that has some, with one line for each rule."""
    machine()
    done = collected(pytester, FP8)
    done.stdout.fnmatch_lines(
        [
            "Generated 2 configurations: 2 valid, 0 filtered, 1 warned*",
            f"  valid but warned 1: perhaps, not to be judged from here: {NEEDS_ADA}",
        ]
    )


def test_a_backend_that_needs_nvidia_has_no_points_without(
    pytester: pytest.Pytester, machine: Machine
) -> None:
    """Its points are filtered on a machine without an NVIDIA GPU; those of others run."""
    machine()
    done = collected(pytester, "grid: {backends: [pytorch, tensorrt]}\n")
    done.stdout.fnmatch_lines(
        [
            "Generated 2 configurations: 1 valid, 1 filtered, *",
            "  filtered 1: tensorrt needs an NVIDIA GPU, and this machine has none",
        ]
    )
    machine("9.0")
    collected(pytester, "grid: {backends: [pytorch, tensorrt]}\n").stdout.fnmatch_lines(
        ["*: 2 valid, 0 filtered*"]
    )


def test_an_engine_elsewhere_is_not_judged(
    pytester: pytest.Pytester, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPUs of a Docker engine on another machine are not those that NVML shows here."""
    machine()
    monkeypatch.setenv("DOCKER_HOST", "ssh://gpu-server")
    done = collected(pytester, "grid: {backends: [tensorrt]}\n", "--campaign-executor=compose")
    done.stdout.fnmatch_lines(
        ["  valid but warned 1: perhaps, not to be judged from here: tensorrt needs an NVIDIA GPU, *"]
    )


def test_memory_that_cannot_fit_is_told_with_its_figures(pytester: pytest.Pytester, machine: Machine) -> None:
    """The line has the numbers of the point that needs most."""
    machine("8.6")
    done = collected(pytester, "grid: {backends: [pytorch], shared: {batch_size: [8, 64, 128, 256]}}\n")
    done.stdout.fnmatch_lines(
        [
            "Generated 4 configurations: 2 valid, 2 filtered, *",
            "  filtered 2: weights and KV cache do not fit into the GPUs' memory; at most 7.8 GB (*) into 4.3 GB",
        ]
    )


def test_memory_is_one_note_where_no_gpu_is_known(pytester: pytest.Pytester, machine: Machine) -> None:
    """One who validates a grid for another machine reads what its largest point needs, and no point is warned."""
    machine()
    grid = "grid: {backends: [pytorch], shared: {batch_size: [8, 64, 128, 256]}}\n"
    done = collected(pytester, grid)
    done.stdout.fnmatch_lines(
        [
            "Generated 4 configurations: 4 valid, 0 filtered, 0 warned*",
            "note: not to be judged from here: *; at most 7.8 GB (weights 2.5, KV cache 5.4) are needed",
        ]
    )
    assert sum("GPUs' memory" in line for line in done.outlines) == 1


def test_a_session_that_measures_on_the_cpu_hears_nothing_of_memory(
    pytester: pytest.Pytester, machine: Machine
) -> None:
    """Without a GPU a campaign that runs is one for the CPU, and has no need of one."""
    machine()
    collected(pytester, "grid: {backends: [pytorch]}\n").stdout.fnmatch_lines(["note: not to be judged*"])
    done = pytester.runpytest_subprocess("--campaign=grid.yaml", "--campaign-executor=local", "-k", "nothing")
    done.stdout.fnmatch_lines(["Generated 1 configuration: 1 valid*"])
    done.stdout.no_fnmatch_line("note: not to be judged*")


def test_the_gpus_that_a_point_names_are_counted(pytester: pytest.Pytester, machine: Machine) -> None:
    """Two GPUs serve a tensor parallel size of two where both are named, and not the one that a session takes."""
    machine("9.0", "9.0")
    parallel = "grid: {backends: [vllm], shared: {tensor_parallel_size: [2], max_num_seqs: [8]}}\n"
    done = collected(pytester, parallel + "defaults: {gpus: [0, 1]}\n")
    done.stdout.fnmatch_lines(["*: 1 valid, 0 filtered, 0 warned*"])
    done = collected(pytester, parallel, "--campaign-gpus=0,1")
    done.stdout.fnmatch_lines(["*: 1 valid, 0 filtered, 0 warned*"])
    done = collected(pytester, parallel)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    assert "tensor x pipeline parallel size is above the number of GPUs" in " ".join(done.errlines)


def test_what_has_no_effect_is_listed(pytester: pytest.Pytester, machine: Machine) -> None:
    """Points that differ in nothing that matters are measured once, and the header says in what they differ."""
    machine("9.0")
    done = collected(
        pytester,
        "grid: {backends: [pytorch], shared: {load_in_4bit: [false, true], bnb_4bit_quant_type: [nf4, fp4]}}\n",
    )
    done.stdout.fnmatch_lines(
        [
            "Generated 4 configurations: 3 valid, 0 filtered, 0 warned*",
            "  merged 1: differ from a valid one only in bnb_4bit_quant_type, which has no effect without load_in_4bit",
        ]
    )
    assert done.stdout.str().count("pytorch-load_in_4bit-false-c1") == 1
