"""Backends and the GPUs that they ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_llem.backends.base import BackendSpec
from pytest_llem.campaign.host import Device, Host
from pytest_llem.campaign.rules.models import pipeline_parallel, tensor_parallel
from pytest_llem.campaign.rules.rule import Rule

AMPERE, ADA = (8, 0), (8, 9)
"""CUDA compute capabilities that brought bfloat16 and fp8 (NVIDIA, CUDA C++ Programming Guide, appendix "Compute
Capabilities"); Hopper has 9.0."""

Devices = Sequence[Device]


def lacks_capability(wanted: tuple[int, int], devices: Devices) -> bool | None:
    """Return whether no GPU has a compute capability; None where that is not known."""
    known = [device.capability for device in devices if device.capability]
    return max(known) < wanted if known else None


def _no_nvidia_gpu(spec: BackendSpec, host: Host | None) -> bool | None:
    if not spec.needs_nvidia_gpu:
        return False
    return None if host is None else not host.devices


def _too_few_gpus(
    parameters: Mapping[str, Any], gpus: tuple[int | str, ...] | None, devices: Devices
) -> bool | None:
    wanted = tensor_parallel(parameters) * pipeline_parallel(parameters)
    if wanted == 1:
        return False
    if gpus is not None:
        return len(gpus) < wanted
    return len(devices) < wanted if devices else None


FILTERED = (
    Rule(
        "no engine",
        lambda spec: spec.engine is None,
        "the {backend} backend comes with a later version",
    ),
    Rule(
        "foreign section",
        lambda sections, spec: bool(sections - {spec.name}),
        "sets parameters of another backend than its own, {backend}",
    ),
    Rule("no NVIDIA GPU", _no_nvidia_gpu, "{backend} needs an NVIDIA GPU, and this machine has none"),
    Rule(
        "too few GPUs",
        _too_few_gpus,
        "tensor x pipeline parallel size is above the number of GPUs: name more in gpus or --campaign-gpus",
    ),
)
