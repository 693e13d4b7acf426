"""Every call of the API is a line of the file that TRTLLM_STANDIN_CALLS names."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any


def record(call: str, **facts: Any) -> None:
    """Append one call; several processes may."""
    line = json.dumps({"call": call, "pid": os.getpid(), "at_s": time.monotonic(), **facts}, default=_plain)
    with Path(os.environ["TRTLLM_STANDIN_CALLS"]).open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else str(value)
