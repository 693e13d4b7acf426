"""The user's Hugging Face token, as a file that a container is given as a secret."""

from __future__ import annotations

import os
from pathlib import Path


def token_file(folder: Path) -> Path | None:
    """Return a file with the token of this user, from where huggingface_hub would take it; None without one.

    Args:
        folder: that only this user may read; a token that is in no file yet is written there.
    """
    token = os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN")
    if token:
        path = folder / "hf_token"
        path.touch(mode=0o600)
        path.write_text(token)
        return path
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("HF_HOME", f"{cache}/huggingface")
    own = Path(os.path.expandvars(os.environ.get("HF_TOKEN_PATH", f"{home}/token"))).expanduser()
    return own if own.is_file() else None
