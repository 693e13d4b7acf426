"""What the local executor says before anything runs, and of an interpreter that is none."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_llem.backends.base import BackendSpec, Parameters
from pytest_llem.campaign.schema import Service
from pytest_llem.executors.base import ExecutorError
from pytest_llem.executors.gpus import installed
from pytest_llem.executors.local import LocalExecutor
from pytest_llem.records import Environment
from pytest_llem.worker.protocol import Welcome

SPEC = BackendSpec(
    name="harp",
    parameters=Parameters,
    batch_parameter="strings",
    engine="harp.engine",
    preload=("harp_that_is_not_installed", "json", "pytest_llem.backends.harp.engine"),
    install="pip install harp",
)

WELCOME = Welcome(
    version="0.0.0",
    pid=1,
    start_method="spawn",
    start_method_reason="",
    environment=Environment(
        hostname=None,
        machine="x86_64",
        kernel="6.1",
        cpu="a CPU",
        logical_cpus=1,
        governor=None,
        memory_bytes=1,
        python="3.11",
        packages={},
    ),
).model_dump(mode="json")


@pytest.fixture
def executor(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LocalExecutor]:
    service = getattr(request, "param", None)
    services = {"harp": service} if service else {}
    made = LocalExecutor({"harp": SPEC}, services, start_timeout_s=10, rootdir=tmp_path)
    yield made
    made.close()


def test_missing_libraries_are_named_with_the_command_that_brings_them(executor: LocalExecutor) -> None:
    """Before the first experiment one line says what is missing, where, and what to type."""
    assert executor.problems(["harp"]) == [
        f"the harp backend needs harp_that_is_not_installed in {sys.executable}: pip install harp"
    ]


@pytest.mark.parametrize("executor", [Service(python="/elsewhere/bin/python")], indirect=True)
def test_an_interpreter_that_is_not_there_is_said_at_once(executor: LocalExecutor) -> None:
    """Nobody waits for experiments that fail one by one: before the first one a line names the key and the path."""
    (problem,) = executor.problems(["harp"])
    assert problem == "services.harp.python: /elsewhere/bin/python is not there: pip install harp"


@pytest.mark.parametrize("executor", [Service(python=sys.executable)], indirect=True)
def test_an_interpreter_is_asked_for_what_it_lacks(executor: LocalExecutor) -> None:
    """Another interpreter than ours is looked into as well."""
    assert executor.problems(["harp"]) == [
        f"the harp backend needs harp_that_is_not_installed in {sys.executable}: pip install harp"
    ]


@pytest.mark.parametrize("executor", [Service(python="false")], indirect=True)
def test_a_program_that_is_no_interpreter_is_named(executor: LocalExecutor) -> None:
    """A program that ends at once is no Python, and the line says so."""
    assert executor.problems(["harp"]) == ["services.harp.python: false does not start: it ended with 1"]


def test_another_path_is_looked_at(tmp_path: Path) -> None:
    """With a PYTHONPATH of its own a backend finds there what is not here."""
    (tmp_path / "harp_that_is_not_installed.py").touch()
    services = {"harp": Service(env={"PYTHONPATH": str(tmp_path)})}
    executor = LocalExecutor({"harp": SPEC}, services, start_timeout_s=10, rootdir=tmp_path)
    assert executor.problems(["harp"]) == []
    executor.close()


def test_a_backend_that_needs_a_gpu_says_so_where_there_is_none(tmp_path: Path) -> None:
    """Modules that must not be preloaded are looked for too, and a GPU as NVML shows them."""
    spec = replace(SPEC, preload=(), modules=("harp_that_is_not_installed",), needs_nvidia_gpu=True)
    executor = LocalExecutor({"harp": spec}, {}, start_timeout_s=10, rootdir=tmp_path)
    *about_gpus, about_modules = executor.problems(["harp"])
    assert about_modules.startswith("the harp backend needs harp_that_is_not_installed")
    here = installed()
    assert about_gpus == ([] if here.gpus else [f"the harp backend needs an NVIDIA GPU, and {here}"])
    executor.close()


@pytest.mark.parametrize("executor", [Service(python="envs/harp/bin/python")], indirect=True)
def test_an_interpreter_that_does_not_exist_is_named(executor: LocalExecutor, tmp_path: Path) -> None:
    """A relative interpreter begins at the root folder, and the message names the key and the path."""
    with pytest.raises(ExecutorError) as caught:
        executor.service("harp")
    assert f"services.harp.python: {tmp_path}/envs/harp/bin/python does not start" in str(caught.value)


@pytest.mark.parametrize("executor", [Service(python="/bin/false")], indirect=True)
def test_a_worker_that_ends_at_once_is_an_error(executor: LocalExecutor) -> None:
    """An interpreter that is none ends before it answers, and that is said instead of waited for."""
    with pytest.raises(ExecutorError, match="ended before it answered"):
        executor.service("harp")


OF_ANOTHER_VERSION = """#!{python}
import os, socket, sys
path = sys.argv[sys.argv.index("--socket") + 1]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path + "-soon")
listener.listen()
os.rename(path + "-soon", path)
listener.accept()[0].sendall({hello!r} + b"\\n")
"""


@pytest.mark.parametrize(
    "hello",
    [
        pytest.param({**WELCOME, "protocol": 0}, id="another number"),
        pytest.param({**WELCOME, "protocol": 0, "mood": "fine"}, id="a field that we do not know"),
        pytest.param({"type": "welcome", "protocol": 0}, id="without fields that we want"),
        pytest.param({"type": "greeting"}, id="another message"),
    ],
)
def test_a_worker_of_another_version_is_named(tmp_path: Path, hello: dict[str, object]) -> None:
    """However its hello differs from ours, one sentence says where another version is."""
    program = tmp_path / "python"
    program.write_text(OF_ANOTHER_VERSION.format(python=sys.executable, hello=json.dumps(hello).encode()))
    program.chmod(0o755)
    services = {"harp": Service(python=str(program))}
    executor = LocalExecutor({"harp": SPEC}, services, start_timeout_s=10, rootdir=tmp_path)
    line = f"the worker of harp speaks another protocol: {program} has another version of pytest-llem"
    with contextlib.closing(executor), pytest.raises(ExecutorError, match=re.escape(line)):
        executor.service("harp")


SILENT = """#!{python}
import os, socket, sys, time
path = sys.argv[sys.argv.index("--socket") + 1]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path + "-soon")
listener.listen()
os.rename(path + "-soon", path)
sys.stdin.read()
"""


def test_a_worker_that_listens_and_says_nothing_is_not_waited_for_without_end(tmp_path: Path) -> None:
    """Its answer to the first question is part of its start, and has what is left of the time for that."""
    program = tmp_path / "python"
    program.write_text(SILENT.format(python=sys.executable))
    program.chmod(0o755)
    services = {"harp": Service(python=str(program))}
    executor = LocalExecutor({"harp": SPEC}, services, start_timeout_s=1, rootdir=tmp_path)
    with contextlib.closing(executor), pytest.raises(ExecutorError, match="the worker said nothing for"):
        executor.service("harp")
