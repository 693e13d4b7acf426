"""The shipped Compose file and images, on a real engine."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from containers import PACKAGE, SHIPPED, Compose, DockerError, conversation, docker, inspect
from pytest_llem import __version__
from pytest_llem.backends.registry import registered
from pytest_llem.worker.protocol import Attach, Hello, Welcome

ROOT = Path(__file__).parents[2]

WITHOUT_GPU = """
services:
  {service}:
    deploy: {{resources: {{reservations: {{devices: !reset []}}}}}}
"""


def welcome_of(container: str) -> Welcome:
    """Return what a worker says to a hello, which must be all that it says."""
    with conversation(container, Hello()) as lines:
        (said,) = lines
    return Welcome.model_validate_json(said)


def without_gpu(folder: Path, service: str) -> Path:
    """Return a Compose file that takes a service's GPU reservation away."""
    path = folder / "without-gpu.yml"
    path.write_text(WITHOUT_GPU.format(service=service))
    return path


def make_powercap(folder: Path) -> Path:
    """Make a powercap tree with one CPU package, as the kernel shows it."""
    zone = folder / "intel-rapl" / "intel-rapl:0"
    zone.mkdir(parents=True)
    for name, value in {
        "name": "package-0",
        "energy_uj": "17",
        "max_energy_range_uj": "262143328850",
    }.items():
        (zone / name).write_text(f"{value}\n")
    return folder


class Service(NamedTuple):
    """The pytorch service, running.

    Attributes:
        container: its id.
        token: the Hugging Face token that it was given.
    """

    container: str
    token: str


@pytest.fixture(scope="module")
def pytorch(pytorch_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run the pytorch service as on a machine without a GPU, with a token and with RAPL."""
    folder = tmp_path_factory.mktemp("pytorch")
    token = f"hf_{uuid.uuid4().hex}"
    (folder / "token").write_text(token)
    variables = {
        "LLEM_HF_TOKEN_FILE": str(folder / "token"),
        "LLEM_POWERCAP": str(make_powercap(folder / "powercap")),
    }
    compose = Compose(SHIPPED, without_gpu(folder, "pytorch"), variables=variables)
    with compose.running("pytorch") as container:
        yield Service(container, token)


@pytest.fixture(scope="module")
def services(engine: None) -> dict[str, dict[str, Any]]:
    """The services of the shipped file, as Compose understands them."""
    return Compose(SHIPPED).services()


def test_each_service_is_named_like_a_backend(services: dict[str, Any]) -> None:
    """The executor finds a backend's service by its name."""
    assert {"pytorch", "vllm"} <= set(services) <= set(registered())


def test_each_service_reserves_the_gpus(services: dict[str, Any]) -> None:
    """A service asks for all NVIDIA GPUs; NVML, which reads their energy, is among the driver's parts."""
    for service in services.values():
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert (device["driver"], device["count"], device["capabilities"]) == ("nvidia", -1, ["gpu"])
        assert "utility" in service["environment"]["NVIDIA_DRIVER_CAPABILITIES"]


def test_each_service_has_an_init_and_shared_memory(services: dict[str, Any]) -> None:
    """The worker is not the process 1, a dead container stays dead, and engines can pass tensors."""
    for service in services.values():
        assert service["init"] is True
        assert service["restart"] == "no"
        assert int(service["shm_size"]) == 8 << 30


def test_each_service_sees_models_and_energy_counters(services: dict[str, Any]) -> None:
    """Models live in one volume for all sessions; RAPL can be read and not written."""
    for service in services.values():
        volumes = {volume["target"]: volume for volume in service["volumes"]}
        assert (volumes["/models"]["type"], volumes["/models"]["source"]) == ("volume", "models")
        assert volumes["/host/powercap"]["read_only"] is True
        assert service["environment"]["HF_HOME"] == "/models"
        assert service["environment"]["LLEM_POWERCAP_ROOT"] == "/host/powercap"


def test_models_can_live_in_a_folder(tmp_path: Path) -> None:
    """`LLEM_MODELS` names a folder of this machine, on a larger disk, in place of the volume."""
    for service in Compose(SHIPPED, variables={"LLEM_MODELS": str(tmp_path)}).services().values():
        (models,) = [volume for volume in service["volumes"] if volume["target"] == "/models"]
        assert (models["type"], models["source"]) == ("bind", str(tmp_path))


def test_each_service_gets_the_token_as_a_secret(services: dict[str, Any]) -> None:
    """The token is a file for huggingface_hub to find, never a variable or an env_file."""
    for service in services.values():
        assert [secret["source"] for secret in service["secrets"]] == ["hf_token"]
        assert service["environment"]["HF_TOKEN_PATH"] == "/run/secrets/hf_token"
        assert "HF_TOKEN" not in service["environment"]
        assert "env_file" not in service


def test_a_build_from_the_checkout_is_the_same_build(pytorch_image: str) -> None:
    """`docker compose build pytorch`, typed in a checkout, makes the image that a session would make."""

    def layers() -> str:
        return docker("image", "inspect", "--format", "{{.RootFS.Layers}}", pytorch_image)

    before = layers()
    docker("compose", "build", "pytorch", folder=ROOT)
    assert layers() == before


def test_the_image_holds_this_package(pytorch_image: str) -> None:
    """An image has the package's files as they are here, and nothing that interpreters left among them."""
    listing = docker(
        "run", "--rm", "--entrypoint", "find", pytorch_image, "/opt/llem/lib/pytest_llem", "-type", "f"
    )
    inside = {line.removeprefix("/opt/llem/lib/pytest_llem/") for line in listing.splitlines()}
    here = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*") if path.is_file()}
    assert inside == {name for name in here if "__pycache__" not in name}


def test_the_pytorch_worker_answers(pytorch: Service) -> None:
    """A hello by exec of the client's source finds this version's worker, torch preloaded."""
    welcome = welcome_of(pytorch.container)
    assert welcome.version == __version__
    assert welcome.start_method == "forkserver"


def test_the_container_says_whether_it_is_well(pytorch: Service) -> None:
    """The health check's own command succeeds while the worker answers."""
    welcome_of(pytorch.container)
    docker("exec", pytorch.container, *inspect(pytorch.container)["Config"]["Healthcheck"]["Test"][1:])


def test_the_container_has_all_that_the_backend_can_use(pytorch: Service) -> None:
    """Quantisation, large models, datasets and torch.compile need packages that the image has."""
    docker("exec", pytorch.container, "python3", "-c", "import accelerate, bitsandbytes, datasets")
    compiled = "import torch; print(torch.compile(torch.sin)(torch.zeros(4)).sum().item())"
    assert docker("exec", pytorch.container, "python3", "-c", compiled, limit_s=300).strip() == "0.0"


def test_the_container_reads_rapl_and_cannot_write_it(pytorch: Service) -> None:
    """The worker has found the counters at /host/powercap, which is read-only."""
    assert any("rapl" in meter for meter in welcome_of(pytorch.container).environment.meters)
    with pytest.raises(DockerError, match="Read-only file system"):
        docker("exec", pytorch.container, "touch", "/host/powercap/mark")


def test_the_token_is_for_the_container_alone(pytorch: Service) -> None:
    """huggingface_hub finds the token in the container; `docker inspect` and the logs do not show it."""
    get = "import huggingface_hub; print(huggingface_hub.get_token())"
    assert docker("exec", pytorch.container, "cat", "/run/secrets/hf_token") == pytorch.token
    assert docker("exec", pytorch.container, "python3", "-c", get).strip() == pytorch.token
    assert pytorch.token not in docker("inspect", pytorch.container)
    assert pytorch.token not in docker("logs", pytorch.container)


def test_the_vllm_worker_answers(vllm_image: str, tmp_path: Path) -> None:
    """The vllm image has this version's worker, with the engine preloaded in a parent that can be forked."""
    files = without_gpu(tmp_path, "vllm")
    with Compose(SHIPPED, files, variables={"LLEM_POWERCAP": "/dev/null"}).running("vllm") as container:
        welcome = welcome_of(container)
        assert welcome.version == __version__
        assert welcome.start_method == "forkserver"


def test_a_container_ends_with_the_conversation_that_holds_it(abacus_compose: Compose) -> None:
    """A worker that a session has attached to ends, and its container with it, when the session is gone."""
    with abacus_compose.running("abacus") as container:
        with conversation(container, Attach()) as lines:
            assert "done" in next(lines)
            assert inspect(container)["State"]["Running"]
        assert docker("wait", container).strip() == "0"
