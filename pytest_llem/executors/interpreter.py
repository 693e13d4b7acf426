"""The interpreter that runs a backend's worker on this machine, and what it lacks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from pytest_llem.backends.base import BackendSpec
from pytest_llem.campaign.schema import Service

WORKER_MODULES = ("pydantic", "psutil", "numpy", "pynvml")
"""What the worker itself imports, beside the standard library."""

ANSWER_WITHIN_S = 60.0
"""A first look at a cold disk can take seconds."""

_LOOK = "import sys; from importlib.util import find_spec; print(*(m for m in sys.argv[1:] if find_spec(m) is None))"


def path_of(python: str | None, rootdir: Path) -> str:
    """Return the interpreter to run: a path from `rootdir`, or a name to look up. A link into a venv stays one."""
    if python is None:
        return sys.executable
    return str(rootdir / Path(python).expanduser()) if "/" in python else python


def absent(service: Service, rootdir: Path, modules: Sequence[str]) -> list[str]:
    """Return which modules a backend's interpreter cannot import.

    Our own interpreter is looked at from within; another one, or ours with another PYTHONPATH, is asked.

    Raises:
        OSError, subprocess.SubprocessError: it does not start.
    """
    if service.python is None and "PYTHONPATH" not in service.env:
        return [name for name in modules if find_spec(name) is None]
    return _ask(path_of(service.python, rootdir), service.env, modules)


def problem(spec: BackendSpec, service: Service, rootdir: Path) -> str | None:
    """Return why a backend cannot run here, with what to do about it, or None."""
    python = path_of(service.python, rootdir)
    tops = dict.fromkeys(name.partition(".")[0] for name in (*spec.preload, *spec.modules))
    wanted = [name for name in tops if name != "pytest_llem"]  # each worker is given ours
    try:
        missing = absent(service, rootdir, [*wanted, *(WORKER_MODULES if service.python else ())])
    except FileNotFoundError:
        return f"services.{spec.name}.python: {python} is not there{_remedy(spec)}"
    except (OSError, subprocess.SubprocessError) as error:
        return f"services.{spec.name}.python: {python} does not start: {_short(error)}"
    if not missing:
        return None
    remedy = "" if {*missing}.isdisjoint(wanted) else _remedy(spec)
    return f"the {spec.name} backend needs {' and '.join(missing)} in {python}{remedy}"


def _remedy(spec: BackendSpec) -> str:
    return f": {spec.install}" if spec.install else ""


def _ask(python: str, env: Mapping[str, str], modules: Iterable[str]) -> list[str]:
    command: Sequence[str] = [python, "-c", _LOOK, *modules]
    done = subprocess.run(  # noqa: S603 - the interpreter is the user's choice, the rest is ours
        command,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        text=True,
        timeout=ANSWER_WITHIN_S,
    )
    return done.stdout.split()


def _short(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return (error.stderr or "").strip().rpartition("\n")[2] or f"it ended with {error.returncode}"
    return str(error)
