"""Distributions with a backend, made by tests: a package and what an installer writes about it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def distribute(
    folder: Path, name: str, modules: Mapping[str, str], point: str, *, version: str = "1.0"
) -> None:
    """Write a distribution as it lies in an environment.

    Args:
        folder: an entry of the import path.
        name: of the distribution.
        modules: file below the folder, and its text.
        point: the line of its entry point, such as `bell = bell.spec:SPEC`.
        version: of the distribution.
    """
    for path, text in modules.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        (file.parent / "__init__.py").touch()
        file.write_text(text)
    about = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (about / "entry_points.txt").write_text(f"[pytest_llem.backends]\n{point}\n")
