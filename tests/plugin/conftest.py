"""What tests of whole sessions share."""

from __future__ import annotations

from pathlib import Path

import pytest

from standin.build import build_nvml


@pytest.fixture(scope="session")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a stand-in for NVIDIA's library."""
    return build_nvml(tmp_path_factory.mktemp("nvml"))
