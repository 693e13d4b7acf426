"""What tests of whole sessions share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from standin.build import build_nvml


@pytest.fixture(scope="session")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a stand-in for NVIDIA's library."""
    if shutil.which("cc") is None:
        pytest.skip("the stand-in for NVML needs a C compiler")
    return build_nvml(tmp_path_factory.mktemp("nvml"))
