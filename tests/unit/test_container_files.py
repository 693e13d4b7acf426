"""The files that make the images agree with the rest of the repository, and are shipped."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import pytest_llem
from pytest_llem.executors.compose.project import PROTOCOL_LABEL
from pytest_llem.worker.protocol import PROTOCOL_VERSION

ROOT = Path(__file__).parents[2]
PACKAGE = Path(pytest_llem.__file__).parent
CONTAINERS = PACKAGE / "containers"
COMPOSE = (CONTAINERS / "docker-compose.yml").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements(lines: list[str]) -> dict[str, Requirement]:
    """Return requirements by the name of their package."""
    parsed = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {requirement.name: requirement for requirement in parsed}


def read(path: Path) -> dict[str, Requirement]:
    return requirements(path.read_text().splitlines())


def pin(requirement: Requirement) -> str:
    """Return the version that a requirement names, without the mark of a build such as `+cpu`."""
    (specifier,) = requirement.specifier
    assert specifier.operator == "=="
    return specifier.version.partition("+")[0]


PYTORCH = read(CONTAINERS / "requirements-pytorch.txt")
WORKER = read(CONTAINERS / "requirements-worker.txt")


@pytest.mark.parametrize("path", ["cpu.txt", "gpu.txt"])
def test_the_pytorch_image_has_the_versions_that_ci_runs(path: str) -> None:
    """An engine is at the same version in the image and in the environment that the tests run in."""
    constraints = read(ROOT / "constraints" / path)
    shared = PYTORCH.keys() & constraints.keys()
    assert shared >= {"torch", "transformers"}
    assert {name: pin(PYTORCH[name]) for name in shared} == {name: pin(constraints[name]) for name in shared}


def test_the_pytorch_image_has_all_that_the_backend_can_use() -> None:
    """What `pytorch` and `quantization` install on a host is pinned in the image, within the same bounds."""
    extras = PROJECT["optional-dependencies"]
    wanted = requirements(extras["pytorch"] + extras["quantization"])
    assert PYTORCH.keys() == wanted.keys()
    for name, requirement in wanted.items():
        assert requirement.specifier.contains(pin(PYTORCH[name]))


def test_the_worker_has_the_same_bounds_everywhere() -> None:
    """A library of the worker has the bounds of the package's own requirements, in every image."""
    declared = requirements(PROJECT["dependencies"] + PROJECT["optional-dependencies"]["datasets"])
    for name in WORKER.keys() & declared.keys():
        assert WORKER[name].specifier == declared[name].specifier


def test_images_are_tagged_with_this_version() -> None:
    """An image that was built by hand is the one that a session of this version looks for."""
    assert set(re.findall(r"LLEM_TAG:-([^}]+)", COMPOSE)) == {pytest_llem.__version__}


@pytest.mark.parametrize("service", ["pytorch", "vllm", "tensorrt"])
def test_a_base_image_is_pinned(service: str) -> None:
    """Dockerfile and Compose file take the same public image by default, at a version."""
    dockerfile = (CONTAINERS / f"Dockerfile.{service}").read_text()
    (by_dockerfile,) = re.findall(r"^ARG BASE_IMAGE=(\S+)$", dockerfile, re.MULTILINE)
    (by_compose,) = re.findall(rf"LLEM_{service.upper()}_BASE:-([^}}]+)", COMPOSE)
    assert by_dockerfile == by_compose
    assert re.search(r":v?\d+\.\d+", by_dockerfile)


@pytest.mark.parametrize("path", sorted(CONTAINERS.glob("Dockerfile.*")), ids=lambda path: path.suffix[1:])
def test_an_image_says_which_protocol_its_worker_speaks(path: Path) -> None:
    """`auto` leaves an image alone that another version has built: its label is that of the package within it."""
    assert f"LABEL {PROTOCOL_LABEL}={PROTOCOL_VERSION}\n" in path.read_text()


def test_a_wheel_brings_the_files(tmp_path: Path) -> None:
    """An installed package can build its images: Compose file, Dockerfiles and requirements are in the wheel."""
    source = tmp_path / "source"
    shutil.copytree(PACKAGE, source / "pytest_llem", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("pytest_llem/")}
    files = {str(path.relative_to(PACKAGE.parent)) for path in PACKAGE.rglob("*") if path.is_file()}
    assert inside == {name for name in files if "__pycache__" not in name}
