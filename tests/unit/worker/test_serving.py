"""What an engine process does between the readings of the meters, and what it has done before."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import pytest

from pytest_llem.backends.base import PassReport, Request
from pytest_llem.records import Configuration, Load
from pytest_llem.worker import workload
from pytest_llem.worker.engine_process import Edge, Job, Message, Port, Served, _serve
from pytest_llem.worker.protocol import WarmupPolicy
from pytest_llem.worker.serving import PromptSource, Serving
from pytest_llem.worker.workload import prompts_sha256

PROMPTS, LENGTH, SEED = 4, 8, 7
PASS_S = 0.01


class Clockwork:
    """An engine that takes `PASS_S` for whatever it is given."""

    vocabulary_size = 1000
    special_token_ids = frozenset({0, 1})

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return [[len(word) for word in text.split()] for text in texts]

    def effective(self) -> dict[str, Any]:
        return {}

    def run_pass(
        self, prompts: Sequence[Sequence[int]], configuration: Configuration, beat: Callable[[], None]
    ) -> PassReport:
        time.sleep(PASS_S)
        beat()
        end_s, tokens = time.monotonic(), configuration.max_output_tokens
        return PassReport([Request(end_s - PASS_S, None, end_s, len(prompt), tokens) for prompt in prompts])

    def batch_limit(self, configuration: Configuration) -> int | None:
        return configuration.num_input_prompts

    def drain(self) -> None:
        pass

    def memory_peak_bytes(self) -> int | None:
        return None


def wanted(**changes: Any) -> Configuration:
    sizes = {"max_input_tokens": LENGTH, "num_input_prompts": PROMPTS, "max_output_tokens": 2}
    return Configuration(**{"backend": "clockwork", "random_seed": SEED, **sizes, **changes})


def window_pass(number: int) -> list[list[int]]:
    special = Clockwork.special_token_ids
    sizes = {"count": PROMPTS, "length": LENGTH, "vocabulary_size": Clockwork.vocabulary_size}
    return workload.synthetic("window", number, seed=SEED, special_token_ids=special, **sizes)


def heard(connection: Connection) -> Iterator[Message]:
    """Yield what the engine process says, but for signs of life, until it has served its job."""
    while True:
        message: Message = connection.recv()
        if message.kind not in ("beat", "phase"):
            yield message
        if message.kind == "served":
            return


def serve(job: Job, at_edge: Callable[[str], None]) -> Served:
    """Have a job served; `at_edge` is called when the meters would be read."""
    server_end, engine_end = Pipe()
    with ThreadPoolExecutor(1) as pool, server_end, engine_end:
        done = pool.submit(_serve, Clockwork(), job, Port(engine_end))
        for message in heard(server_end):
            at_edge(message.kind)
            server_end.send(Edge(message.at_s))
        done.result()
    served: Served = message.body
    return served


@pytest.mark.parametrize(
    ("load", "passes"),
    [
        pytest.param(Load(), 5, id="passes"),
        pytest.param(Load(mode="closed", concurrency=2, requests=PROMPTS), 100, id="load"),
    ],
)
def test_no_prompts_are_drawn_while_the_meters_count(
    monkeypatch: pytest.MonkeyPatch, load: Load, passes: int
) -> None:
    """The prompts of a window are drawn before the meters are read first, and its hash is that of its first pass."""
    kinds = ["warm-up"]
    drawn: list[str] = []

    def drawing(stream: workload.Stream, number: int, **sizes: Any) -> list[list[int]]:
        drawn.append(kinds[-1])
        return draw(stream, number, **sizes)

    draw = workload.synthetic
    monkeypatch.setattr(workload, "synthetic", drawing)
    policy = WarmupPolicy(min_prompts=0, timeout_s=0)
    served = serve(Job(wanted(load=load), None, policy, 0.0, passes, measured=True), kinds.append)
    assert kinds == ["warm-up", "ready", "closing", "served"]
    assert set(drawn) == {"warm-up"}
    assert served.prompt_sha256 == prompts_sha256(window_pass(0))


def test_the_last_pass_foretells_how_much_a_window_of_seconds_serves() -> None:
    """As many passes are drawn ahead as fill the window if each is as long as the last one, and not one more."""
    source = PromptSource(Clockwork(), wanted(), None)
    serving = Serving(Clockwork(), wanted(), source, lambda: None)
    serving.run_pass("warmup", 0)
    serving.draw_ahead("window", 4.5 * PASS_S, 1)
    assert [is_drawn(source, number) for number in range(6)] == [True] * 5 + [False]


def is_drawn(source: PromptSource, number: int) -> bool:
    """Return whether a pass of the window has been drawn: then it is the same object each time."""
    return source.for_pass("window", number) is source.for_pass("window", number)


def test_what_is_drawn_ahead_is_what_would_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes that were drawn ahead, and those for which there was no room, are the ones of their numbers."""
    monkeypatch.setattr("pytest_llem.worker.serving.AHEAD_TOKENS", 2 * PROMPTS * LENGTH)
    source = PromptSource(Clockwork(), wanted(), None)
    source.draw_ahead("window", 3)
    passes = [[list(ids) for ids in source.for_pass("window", number)] for number in range(4)]
    assert passes == [*map(window_pass, range(4))]
    assert [is_drawn(source, number) for number in range(4)] == [True, True, False, False]


def test_what_is_drawn_ahead_is_no_work_for_the_garbage_collector() -> None:
    """The collector, which may come at any moment of a window, does not look into prompts that were drawn before."""
    source = PromptSource(Clockwork(), wanted(), None)
    source.draw_ahead("window", 3)
    gc.collect()
    assert not any(gc.is_tracked(ids) for number in range(3) for ids in source.for_pass("window", number))
