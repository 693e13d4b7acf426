"""The `openai` engine: sends requests to a server and keeps what it says of them. Needs no library.

Each request has a thread and a connection of its own, so as many are in flight as `concurrency` allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from pytest_llem.backends import application
from pytest_llem.backends.base import EngineError, PassReport, Request
from pytest_llem.backends.openai.completions import Completions
from pytest_llem.backends.openai.prompts import PromptForm, form_of
from pytest_llem.backends.openai.server import Server
from pytest_llem.backends.openai.spec import OpenAIParameters
from pytest_llem.records import RANDOM_WEIGHTS, Configuration

LOOK_UP_S = 0.5
"""While nothing of a pass completes, so often the engine shows that it lives."""

STEP_S = 0.001
"""A step lasts at most so long: a request that comes meanwhile is sent so much late, and its latency has that."""


def load(configuration: Configuration, model_path: str) -> ServerEngine:
    """Find the server and its model. Nothing is loaded: that the server has done.

    Args:
        configuration: the first that the engine will serve.
        model_path: a folder with the model's `config.json`, or a name.

    Raises:
        EngineError: the server does not serve what the configuration asks for.
        EngineFailed: there is no server.
    """
    parameters = OpenAIParameters.model_validate(configuration.parameters)
    server = Server(parameters)
    name = parameters.model or configuration.model_name.removeprefix(RANDOM_WEIGHTS)
    models = {str(model.get("id")): model for model in server.models()}
    if name not in models:
        raise EngineError(f"the server has no model {name!r}: set openai.model to one of {', '.join(models)}")
    told = {fact: models[name][fact] for fact in ("max_model_len", "owned_by") if models[name].get(fact)}
    about = {"base_url": server.base_url, "model": name, **told, "server_version": server.version()}
    return ServerEngine(server, about, form_of(parameters, server, name, Path(model_path)), configuration)


class ServerEngine:
    """A server's model. It takes whole passes, and requests one by one.

    Args:
        server: that has it.
        about: what the server says of itself.
        form: how prompts are sent.
        configuration: the first that is served.
    """

    def __init__(
        self, server: Server, about: Mapping[str, Any], form: PromptForm, configuration: Configuration
    ) -> None:
        self._server = server
        self._about = about
        self._form = form
        self.vocabulary_size = form.vocabulary_size
        self.special_token_ids = form.special_token_ids
        self._under_way: dict[Future[Request], float] = {}
        self._done: SimpleQueue[Future[Request]] = SimpleQueue()
        self._begin(configuration)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Turn texts into token ids, or into the numbers of their words where the server takes texts."""
        return self._form.ids(texts)

    def asked(self, configuration: Configuration) -> dict[str, Any]:
        """Return what a configuration demands; most of it the server alone could confirm, and does not."""
        section = {"extra_body", "base_url", "model", "prompt_form", "concurrency"}
        parameters = {name: configuration.parameters[name] or None for name in section}
        demanded = application.demanded(configuration.model_copy(update={"parameters": parameters}))
        if configuration.output_length == "natural":  # the server ends answers as it likes
            del demanded["output_length"]
        return demanded

    def effective(self) -> dict[str, Any]:
        """Return what the server says of itself, and after a pass what its counts have shown."""
        wanted = self._configuration
        is_exact = wanted.output_length == "exact" and self._completions.has_served
        shown = {"output_length": "exact", "max_output_tokens": wanted.max_output_tokens} if is_exact else {}
        own = {name: getattr(self._parameters, name) for name in ("prompt_form", "concurrency")}
        return {**self._about, **own, **shown}

    def run_pass(
        self, prompts: Sequence[Sequence[int]], configuration: Configuration, beat: Callable[[], None]
    ) -> PassReport:
        """Send every prompt, as many at once as `concurrency` says. A request is submitted when it is sent."""
        self._adopt(configuration)
        sent = [self._crew.submit(self._completions.serve, prompt) for prompt in prompts]
        left = set(sent)
        while left:
            done, left = wait(left, LOOK_UP_S, FIRST_COMPLETED)
            _give_up_on_failure(done, left)
            beat()
        return PassReport([future.result() for future in sent])

    # --- One by one ---

    def submit(self, prompt: Sequence[int], submitted_s: float, configuration: Configuration) -> None:
        """Send a request, or let it wait until one of those in flight is complete."""
        self._adopt(configuration)
        future = self._crew.submit(self._completions.serve, prompt)
        self._under_way[future] = submitted_s
        future.add_done_callback(self._done.put)

    def step(self, beat: Callable[[], None]) -> PassReport:
        """Wait a moment for requests to complete."""
        done = []
        with suppress(Empty):
            done.append(self._done.get(timeout=STEP_S))
            while True:
                done.append(self._done.get_nowait())
        _give_up_on_failure(done, self._under_way)
        beat()
        return PassReport([self._arrived(future) for future in done])

    def cancel(self) -> list[Request]:
        """Forget what waits, and let finish what is in flight: only its end says how many tokens it had."""
        begun = [future for future in self._under_way if not future.cancel()]
        wait(begun)
        _give_up_on_failure(begun, ())
        requests = [self._arrived(future) for future in begun]
        self._under_way.clear()
        self._done = SimpleQueue()
        return requests

    def _arrived(self, future: Future[Request]) -> Request:
        """Return a request with the time since when it was there to be served."""
        request, submitted_s = future.result(), self._under_way.pop(future)
        request.started_s, request.submitted_s = request.submitted_s, submitted_s
        return request

    # --- What an engine tells ---

    def batch_limit(self, configuration: Configuration) -> int | None:
        """Return how many requests are in flight at once at most; the server may serve fewer."""
        return OpenAIParameters.model_validate(configuration.parameters).concurrency

    def drain(self) -> None:
        """Return at once: no request is left when a pass or a load is over."""

    def memory_peak_bytes(self) -> int | None:
        """Return None: the memory is the server's."""
        return None

    # --- One configuration after another ---

    def _adopt(self, configuration: Configuration) -> None:
        if configuration != self._configuration:
            self._crew.shutdown()
            self._begin(configuration)

    def _begin(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._parameters = OpenAIParameters.model_validate(configuration.parameters)
        self._completions = Completions(self._server, self._about["model"], self._form, configuration)
        self._crew = ThreadPoolExecutor(self._parameters.concurrency, thread_name_prefix="llem-request")


def _give_up_on_failure(done: Iterable[Future[Request]], left: Iterable[Future[Request]]) -> None:
    """Raise what went wrong with one of those that are done; those that wait are not sent any more."""
    failure = next(filter(None, (future.exception() for future in done)), None)
    if failure is not None:
        for future in left:
            future.cancel()
        raise failure
