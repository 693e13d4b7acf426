"""Models that the client of the Hugging Face hub has left on this machine. The hub itself is not asked.

Names of variables and folders are those of huggingface_hub
(https://huggingface.co/docs/huggingface_hub/guides/manage-cache).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Return where the client keeps models, whether there are any or not."""
    home = environ.get("HF_HOME") or f"{environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    return Path(environ.get("HF_HUB_CACHE") or f"{home}/hub").expanduser()


def snapshot(cache: Path, model: str, revision: str | None) -> Path | None:
    """Return the folder of a model as it was last fetched; None where it never was.

    Args:
        cache: the client's.
        model: its id, such as `org/name`.
        revision: branch, tag or whole commit; None: the branch `main`.
    """
    home = cache / f"models--{model.replace('/', '--')}"
    wanted = revision or "main"
    try:
        named = home / "refs" / wanted
        commit = named.read_text(encoding="ascii").strip() if named.is_file() else wanted
        found = home / "snapshots" / commit
        return found if found.is_dir() else None
    except (OSError, ValueError):  # no name of a file, or no commit in it
        return None
