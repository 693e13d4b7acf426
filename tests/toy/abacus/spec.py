"""The host's side of the abacus."""

from __future__ import annotations

from typing import ClassVar

from pytest_llem.backends.base import BackendSpec, Parameters


class AbacusParameters(Parameters):
    """The `abacus:` section.

    Attributes:
        batch_size: prompts a stroke.
        rods: something that needs a new load.
        token_ms: how long a token of a batch takes, in ms of sleep.
        load_s: how long the load takes.
        mood_file: a file whose first word says how to misbehave; absent or empty: fine.
    """

    per_call: ClassVar[frozenset[str]] = frozenset({"batch_size", "token_ms"})

    batch_size: int = 1
    rods: int = 13
    token_ms: float = 0.1
    load_s: float = 0.0
    mood_file: str | None = None


SPEC = BackendSpec(
    name="abacus",
    parameters=AbacusParameters,
    batch_parameter="batch_size",
    engine="abacus.engine",
    preload=("abacus.engine",),
    packages=("abacus",),
    loads_models=False,
)
