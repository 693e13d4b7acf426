"""Backends in packages of their own, whole and broken: real distributions on a path of their own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from distributions import distribute
from pytest_llem.backends.base import EngineFailed
from pytest_llem.backends.registry import (
    ENGINE_NAMES,
    BackendError,
    checked,
    engine_module,
    origin,
    registered,
)

SPEC = """
from pytest_llem.backends.base import BackendSpec, Parameters
SPEC = BackendSpec(name="bell", parameters=Parameters, batch_parameter="b", engine="bell.engine")
"""

Ring = Callable[..., None]


@pytest.fixture
def ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ring]:
    """Return a function that installs the distribution llem-bell 2.0 with a package `bell`."""
    monkeypatch.syspath_prepend(tmp_path)
    registered.cache_clear()

    def install(spec: str = SPEC, *, engine: str | None = None, point: str = "bell = bell.spec:SPEC") -> None:
        modules = {"bell/spec.py": spec} | ({} if engine is None else {"bell/engine.py": engine})
        distribute(tmp_path, "llem-bell", modules, point, version="2.0")

    yield install
    registered.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "bell"]:
        del sys.modules[name]


def test_a_backend_of_another_distribution_is_found(ring: Ring) -> None:
    """A backend in a package of its own stands beside those of this package, in the order of names."""
    ring()
    assert list(registered()) == ["bell", "openai", "pytorch", "tensorrt", "vllm"]
    assert registered()["bell"].engine == "bell.engine"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("import bellows", "ModuleNotFoundError: No module named 'bellows'"),
        ("SPEC = 1 / 0", "ZeroDivisionError: division by zero"),
        ("", "AttributeError: module 'bell.spec' has no attribute 'SPEC'"),
        ("SPEC = {}", "bell.spec:SPEC is no BackendSpec"),
        (SPEC.replace('name="bell"', 'name="gong"'), "its entry point calls it bell, its spec gong"),
    ],
    ids=["import", "raises", "no spec", "no BackendSpec", "another name"],
)
def test_a_broken_spec(ring: Ring, spec: str, words: str) -> None:
    """A spec that cannot be used is told in one line that names backend and distribution."""
    ring(spec)
    with pytest.raises(BackendError) as error:
        registered()
    assert str(error.value) == f"the backend bell of llem-bell 2.0 is broken: {words}"


def test_two_of_one_name(ring: Ring) -> None:
    """A backend cannot take the name of another one."""
    ring(point="pytorch = pytest_llem.backends.pytorch.spec:SPEC")
    with pytest.raises(BackendError, match=r"pytorch of .* is broken: another distribution has a backend of"):
        registered()


class TestEngine:
    def test_not_there(self, ring: Ring) -> None:
        """An engine module that is not installed is told with its distribution and the interpreter."""
        ring()
        with pytest.raises(EngineFailed, match=r"^the module bell\.engine of llem-bell 2\.0 is not in /"):
            engine_module("bell.engine")

    def test_a_library_of_it_is_missing(self, ring: Ring) -> None:
        """A library that the engine needs is not taken for the engine."""
        ring(engine="import bellows")
        with pytest.raises(ModuleNotFoundError, match="bellows"):
            engine_module("bell.engine")

    def test_without_load(self, ring: Ring) -> None:
        """An engine module must offer `load`."""
        ring(engine="def launch(): ...")
        with pytest.raises(EngineFailed, match=r"bell\.engine of llem-bell 2\.0 has no function load\("):
            engine_module("bell.engine")

    @pytest.mark.parametrize("missing", ENGINE_NAMES)
    def test_a_method_is_missing(self, ring: Ring, missing: str) -> None:
        """An engine that lacks something is refused by the name of what it lacks, before it serves."""
        ring()
        engine = type("Bell", (), {name: None for name in ENGINE_NAMES if name != missing})()
        with pytest.raises(
            EngineFailed, match=rf"^the engine in bell\.engine of llem-bell 2\.0 lacks {missing}$"
        ):
            checked(engine, "bell.engine")

    def test_whole(self) -> None:
        """An engine with everything passes as it is."""
        engine = type("Bell", (), dict.fromkeys(ENGINE_NAMES))()
        assert checked(engine, "bell.engine") is engine

    def test_where_no_distribution_is_known(self) -> None:
        """In an image into which a package was copied, the package is named."""
        assert origin("bell.engine") == "bell"
