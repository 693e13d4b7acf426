"""The backends that are installed, found by their entry points, and what is said of one that is broken."""

from __future__ import annotations

import importlib
import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pytest_llem.backends.base import BackendSpec, Engine, EngineFailed

GROUP = "pytest_llem.backends"

ENGINE_NAMES = (*Engine.__annotations__, *(name for name in vars(Engine) if not name.startswith("_")))
"""What every engine has."""


class BackendError(Exception):
    """A backend that is installed is broken: one line each."""


@cache
def registered() -> dict[str, BackendSpec]:
    """Return every registered backend by name, in the order of names.

    Raises:
        BackendError: one is broken: a plug-in that is installed should be heard.
    """
    specs: dict[str, BackendSpec] = {}
    problems: list[str] = []
    for point in sorted(entry_points(group=GROUP)):
        try:
            spec = _spec(point)
            if point.name in specs:
                raise BackendError("another distribution has a backend of that name")
            specs[point.name] = spec
        except Exception as error:  # noqa: BLE001 - a plug-in's module raises what it likes
            reason = str(error) if isinstance(error, BackendError) else f"{type(error).__name__}: {error}"
            problems.append(f"the backend {point.name} of {_distribution(point)} is broken: {reason}")
    if problems:
        raise BackendError("\n".join(problems))
    return specs


def _spec(point: EntryPoint) -> BackendSpec:
    spec = point.load()
    if not isinstance(spec, BackendSpec):
        raise BackendError(f"{point.value} is no BackendSpec")
    if spec.name != point.name:
        raise BackendError(f"its entry point calls it {point.name}, its spec {spec.name}")
    return spec


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.module.partition(".")[0]


def origin(module: str) -> str:
    """Return the distribution that a backend's module belongs to, with its version; its package, if that is all."""
    top = module.partition(".")[0]
    points = (point for point in entry_points(group=GROUP) if point.module.partition(".")[0] == top)
    return next(map(_distribution, points), top)


# --- In the engine process ---


def engine_module(name: str) -> Any:
    """Import an engine module.

    Raises:
        EngineFailed: it is not there, or has no function `load`.
    """
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # a library that the engine needs, which the error names
        raise EngineFailed(f"the module {name} of {origin(name)} is not in {sys.executable}") from error
    if not hasattr(module, "load"):
        raise EngineFailed(f"the module {name} of {origin(name)} has no function load(configuration, model)")
    return module


def checked(engine: Any, module: str) -> Engine:
    """Return an engine that has all that an engine has.

    Raises:
        EngineFailed: something is missing.
    """
    missing = [name for name in ENGINE_NAMES if not hasattr(engine, name)]
    if missing:
        raise EngineFailed(f"the engine in {module} of {origin(module)} lacks {', '.join(missing)}")
    whole: Engine = engine
    return whole
