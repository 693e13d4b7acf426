"""The vllm backend's own environment, in which tests ask the real engine."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from containers import missing

ROOT = Path(__file__).parents[1]
CHILD = ROOT / "tests" / "engines" / "vllm_child.py"


def vllm_python() -> Path:
    """Return the interpreter that has vLLM; without one the test is skipped, in CI it fails."""
    python = Path(os.environ.get("LLEM_VLLM_PYTHON", ROOT / ".venv-vllm" / "bin" / "python"))
    if not python.exists():
        missing(f"no vLLM: {python} does not exist; scripts/setup-vllm.sh makes it")
    return python


def environment(**more: str) -> dict[str, str]:
    """Return the variables of a process in that interpreter that finds this package, and computes in one thread."""
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | more


def ask(question: str, **details: Any) -> Any:
    """Return what a function of `vllm_child.py` answers in the vLLM environment."""
    asked = subprocess.run(
        [vllm_python(), CHILD, question],
        input=json.dumps(details),
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert asked.returncode == 0, asked.stdout[-2000:] + asked.stderr[-4000:]
    return json.loads(asked.stdout.splitlines()[-1])
