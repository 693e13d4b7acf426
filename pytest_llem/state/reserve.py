"""Space kept free on the disk while a run is written: room for the result that finds the disk full."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_llem.state.results import storage

RESERVE_FILE = ".reserve"
RESERVE_BYTES = 256 * 1024
"""A result has some 10 kB, its journal line and CSV row less than 2 kB."""


def take(folder: Path) -> None:
    """Reserve the space.

    Raises:
        StorageError: the disk is full already, or cannot be written.
    """
    path = folder / RESERVE_FILE
    with storage(path), path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)


def release(folder: Path) -> bool:
    """Give the space back to the disk; return whether there was any."""
    try:
        (folder / RESERVE_FILE).unlink()
    except OSError:
        return False
    return True
