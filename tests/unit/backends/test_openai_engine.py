"""The engine against a server on a real socket."""

from __future__ import annotations

import itertools
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.backends.application import prove
from pytest_llem.backends.base import EngineError, EngineFailed, PassReport, Request, Scheduler
from pytest_llem.backends.openai.engine import ServerEngine, load
from pytest_llem.records import Configuration, Decoder
from standin.completions import CompletionsServer, serving

PROMPTS = [[5, 6, 7], [8, 9], [10, 11, 12, 13]]


@pytest.fixture
def server() -> Iterator[CompletionsServer]:
    with serving() as server:
        yield server


def wanted(server: CompletionsServer, **settings: Any) -> Configuration:
    """Return a configuration; what is no field of it is a parameter of the engine."""
    own = {name: settings.pop(name) for name in list(settings) if name in Configuration.model_fields}
    section = {"base_url": server.base_url, "model": "beads", "vocabulary_size": 100, "extra_body": {}}
    section |= {"api_key_env": None, "concurrency": 8, "prompt_form": "token_ids", "timeout_seconds": 30.0}
    return Configuration.model_validate(
        {"model_name": "beads", "backend": "openai", "max_output_tokens": 4, "parameters": section | settings}
        | own
    )


def served(
    configuration: Configuration, prompts: list[list[int]] = PROMPTS, model: str = "beads"
) -> tuple[ServerEngine, PassReport]:
    engine = load(configuration, model)
    return engine, engine.run_pass(prompts, configuration, lambda: None)


class TestPass:
    def test_every_prompt_is_served_in_its_place(self, server: CompletionsServer) -> None:
        """Requests come back in the order of the prompts, with the server's counts and times in order."""
        _, report = served(wanted(server))

        assert [request.prompt_tokens for request in report.requests] == [3, 2, 4]
        assert {request.output_tokens for request in report.requests} == {4}
        for request in report.requests:
            assert request.first_token_s is not None
            assert request.submitted_s <= request.first_token_s <= request.completed_s

    @pytest.mark.key("openai.concurrency")
    @pytest.mark.parametrize("concurrency", [1, 3])
    def test_concurrency(self, server: CompletionsServer, concurrency: int) -> None:
        """As many requests are in flight at once as were asked for, and no more."""
        server.behaviour.token_s = 0.02
        served(wanted(server, concurrency=concurrency), PROMPTS * 3)

        assert server.most_in_flight == concurrency

    def test_the_body(self, server: CompletionsServer) -> None:
        """A greedy request for an exact length says so, in words that servers know, and nothing else."""
        served(wanted(server, random_seed=7, prefix_reuse="allow"), PROMPTS[:1])

        assert server.bodies == [
            {
                "model": "beads",
                "prompt": [5, 6, 7],
                "max_tokens": 4,
                "stream": True,
                "stream_options": {"include_usage": True},
                "seed": 7,
                "temperature": 0.0,
                "ignore_eos": True,
            }
        ]

    def test_a_prefix_cache_serves_nothing(self, server: CompletionsServer) -> None:
        """Each request has a salt of its own, unless prefixes may be reused or the campaign takes it out."""
        served(wanted(server))
        assert len({body["cache_salt"] for body in server.bodies}) == len(PROMPTS)
        server.bodies.clear()
        served(wanted(server, prefix_reuse="allow"))
        served(wanted(server, extra_body={"cache_salt": None}))
        assert not any("cache_salt" in body for body in server.bodies)

    def test_sampling(self, server: CompletionsServer) -> None:
        """A decoder that samples sends what it samples by."""
        served(wanted(server, decoder=Decoder(preset="creative", top_k=0)), PROMPTS[:1])

        (body,) = server.bodies
        names = ("temperature", "top_p", "top_k", "repetition_penalty")
        assert [body.get(name) for name in names] == [0.8, 0.9, None, 1.1]

    @pytest.mark.key("openai.extra_body")
    def test_extra_body(self, server: CompletionsServer) -> None:
        """Further arguments are sent, and null takes one out."""
        served(wanted(server, extra_body={"min_tokens": 4, "ignore_eos": None}), PROMPTS[:1])

        (body,) = server.bodies
        assert body["min_tokens"] == 4
        assert "ignore_eos" not in body

    def test_times_of_tokens(self, server: CompletionsServer) -> None:
        """With streaming and a chunk for each token, each token has the time at which its chunk came."""
        server.behaviour.token_s = 0.01
        _, report = served(wanted(server, streaming=True))

        for request in report.requests:
            assert request.token_s is not None
            assert len(request.token_s) == 4
            assert [request.token_s[0], request.token_s[-1]] == [request.first_token_s, request.completed_s]
            assert all(later > sooner for sooner, later in itertools.pairwise(request.token_s))

    def test_chunks_of_several_tokens(self, server: CompletionsServer) -> None:
        """Tokens are never counted by chunks: where a chunk holds several, single tokens have no time."""
        server.behaviour.tokens_a_chunk = 2
        _, report = served(wanted(server, streaming=True))

        assert {request.output_tokens for request in report.requests} == {4}
        assert {request.token_s for request in report.requests} == {None}

    def test_chunks_that_say_what_they_hold(self, server: CompletionsServer) -> None:
        """Where the server says which tokens a chunk holds, each of them has the time of its chunk."""
        server.behaviour.tokens_a_chunk = 3
        wants = wanted(server, streaming=True, extra_body={"return_token_ids": True})
        _, report = served(wants, PROMPTS[:1])

        (request,) = report.requests
        assert request.token_s is not None
        assert request.token_s[0] == request.token_s[2] < request.token_s[3] == request.completed_s

    @pytest.mark.parametrize("cached", [None, 2])
    def test_cached_tokens(self, server: CompletionsServer, cached: int | None) -> None:
        """Cached tokens are what the server says, and not known where it says nothing."""
        server.behaviour.cached = cached
        _, report = served(wanted(server))

        assert {request.cached_tokens for request in report.requests} == {cached}

    def test_natural_length(self, server: CompletionsServer) -> None:
        """With a natural length answers end where the server ends them."""
        server.behaviour.ends_after = 2
        _, report = served(wanted(server, output_length="natural"))

        assert {request.output_tokens for request in report.requests} == {2}


class TestScheduler:
    def test_it_is_one(self, server: CompletionsServer) -> None:
        """The engine takes requests one by one."""
        assert isinstance(load(wanted(server), "beads"), Scheduler)

    def test_requests_wait_for_a_place(self, server: CompletionsServer) -> None:
        """A request is submitted when it was there to be served, and begun when it was sent."""
        server.behaviour.token_s = 0.01
        configuration = wanted(server, concurrency=1)
        engine = load(configuration, "beads")
        begin_s = time.monotonic()
        for _ in range(3):
            engine.submit([5, 6], begin_s, configuration)
        requests: list[Request] = []
        while len(requests) < 3:
            requests += engine.step(lambda: None).requests

        requests.sort(key=lambda request: request.completed_s)
        assert {request.submitted_s for request in requests} == {begin_s}
        for earlier, later in itertools.pairwise(requests):
            assert later.started_s is not None
            assert later.started_s >= earlier.completed_s

    def test_a_step_is_short(self, server: CompletionsServer) -> None:
        """While requests are under way a step ends without one, so that the next can be sent in time."""
        server.behaviour.token_s = 0.1
        configuration = wanted(server)
        engine = load(configuration, "beads")
        engine.submit([5, 6], time.monotonic(), configuration)
        assert engine.step(lambda: None).requests == []
        engine.submit([7, 8], time.monotonic(), configuration)
        assert len(engine.cancel()) == 2
        assert server.most_in_flight == 2

    def test_cancel(self, server: CompletionsServer) -> None:
        """What is in flight is let finish and counted; what waits is never sent."""
        server.behaviour.token_s = 0.1
        configuration = wanted(server, concurrency=2)
        engine = load(configuration, "beads")
        for _ in range(5):
            engine.submit([5, 6], time.monotonic(), configuration)
        while len(server.bodies) < 2:
            time.sleep(0.01)
        begun = engine.cancel()

        assert [request.output_tokens for request in begun] == [4, 4]
        assert len(server.bodies) == 2
        assert engine.cancel() == []

    def test_a_failure(self, server: CompletionsServer) -> None:
        """A request that fails ends the load with its sentence."""
        configuration = wanted(server)
        engine = load(configuration, "beads")
        server.behaviour.status = 500
        engine.submit([5], time.monotonic(), configuration)

        while engine._under_way and not next(iter(engine._under_way)).done():
            time.sleep(0.01)
        with pytest.raises(EngineFailed, match=r"the server failed \(500\): the beads are stuck"):
            engine.step(lambda: None)


class TestPrompts:
    @pytest.mark.key("openai.prompt_form")
    def test_words(self, server: CompletionsServer) -> None:
        """Where a server takes texts, a prompt is so many words, and texts come back as they were."""
        configuration = wanted(server, prompt_form="text", vocabulary_size=None)
        engine = load(configuration, "beads")
        prompts = [[0, engine.vocabulary_size - 1, 3], *engine.tokenize(["count  the beads,\nplease"])]
        engine.run_pass(prompts, configuration, lambda: None)

        synthetic, text = sorted((body["prompt"] for body in server.bodies), key=len)
        assert len(set(synthetic.split())) == 3
        assert text == "count the beads, please"

    def test_texts_become_the_servers_ids(self, server: CompletionsServer) -> None:
        """Texts are turned into token ids by the server itself."""
        engine = load(wanted(server), "beads")
        assert engine.tokenize(["count the beads", "now"]) == [[5, 3, 5], [3]]

    def test_a_server_that_does_not_tokenize(self, server: CompletionsServer) -> None:
        """Without the server's help there are no ids of texts, and the message says what else there is."""
        server.behaviour.tokenizes = False
        engine = load(wanted(server), "beads")
        with pytest.raises(EngineError, match=r"no /tokenize\): set openai\.prompt_form: text"):
            engine.tokenize(["count"])

    @pytest.mark.key("openai.vocabulary_size")
    def test_vocabulary(self, server: CompletionsServer, tmp_path: Path) -> None:
        """The size is that of config.json, unless the campaign says another; special ids are left out."""
        (tmp_path / "config.json").write_text(
            json.dumps({"text_config": {"vocab_size": 500, "bos_token_id": 1}, "eos_token_id": [2, 3]})
        )
        from_file = load(wanted(server, vocabulary_size=None), str(tmp_path))
        assert from_file.vocabulary_size == 500
        assert from_file.special_token_ids == {1, 2, 3}
        assert load(wanted(server, vocabulary_size=60), str(tmp_path)).vocabulary_size == 60

    def test_no_vocabulary(self, server: CompletionsServer) -> None:
        """Token ids of a vocabulary that nobody knows are not made up."""
        with pytest.raises(EngineError, match=r"how many token ids .* or openai\.prompt_form: text"):
            load(wanted(server, vocabulary_size=None), "beads")


class TestApplied:
    def test_what_the_server_says(self, server: CompletionsServer) -> None:
        """What the server tells of itself and what its counts show is what was applied."""
        configuration = wanted(server)
        engine, _ = served(configuration)

        application = prove(engine, configuration)
        assert application.effective == {
            "base_url": server.base_url,
            "model": "beads",
            "max_model_len": 64,
            "server_version": "0.1-beads",
            "prompt_form": "token_ids",
            "concurrency": 8,
            "output_length": "exact",
            "max_output_tokens": 4,
        }
        assert application.unconfirmed == ("fp_precision", "do_sample", "repetition_penalty")

    def test_nothing_is_shown_before_a_pass(self, server: CompletionsServer) -> None:
        """Lengths are shown by answers, and those of another configuration show nothing of this one."""
        one, other = wanted(server), wanted(server, max_output_tokens=2)
        engine, _ = served(one)
        assert engine.effective()["max_output_tokens"] == 4
        engine.run_pass(PROMPTS, other, lambda: None)
        assert engine.effective()["max_output_tokens"] == 2
        assert "output_length" not in load(one, "beads").effective()

    def test_an_answer_that_ends_early(self, server: CompletionsServer) -> None:
        """An exact length that the server does not keep is refused, with what can be done."""
        server.behaviour.ends_after = 2
        with pytest.raises(EngineError, match=r"after 2 of 4 output tokens: .*extra_body .*natural"):
            served(wanted(server, extra_body={"ignore_eos": None}))

    @pytest.mark.parametrize(("more", "is_taken"), [(1, True), (2, False), (-1, False)])
    def test_a_server_that_counts_other_prompts(
        self, server: CompletionsServer, more: int, is_taken: bool
    ) -> None:
        """Of ids the server must count as many, or one more that begins every sequence."""
        server.behaviour.extra_prompt_tokens = more
        if is_taken:
            _, report = served(wanted(server), PROMPTS[:1])
            assert report.requests[0].prompt_tokens == 4
        else:
            with pytest.raises(
                EngineError, match=rf"3 token ids were sent .* counts {3 + more} prompt tokens"
            ):
                served(wanted(server), PROMPTS[:1])


class TestKeys:
    @pytest.mark.key("openai.api_key_env")
    def test_the_key_comes_from_the_environment(
        self, server: CompletionsServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The key goes to the server alone: nothing that is reported holds it."""
        monkeypatch.setenv("BEADS_KEY", "sk-secret")
        server.behaviour.key = "sk-secret"
        configuration = wanted(server, api_key_env="BEADS_KEY")
        engine, _ = served(configuration)

        assert server.keys == {"Bearer sk-secret"}
        assert "secret" not in repr(prove(engine, configuration)) + configuration.model_dump_json()

    def test_no_key(self, server: CompletionsServer) -> None:
        """A server that wants a key is refused with the parameter that names one."""
        server.behaviour.key = "sk-secret"
        with pytest.raises(EngineError, match=r"without a key \(401\): set openai\.api_key_env"):
            load(wanted(server), "beads")

    def test_a_wrong_key(self, server: CompletionsServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """A key that is refused is not repeated, though the server repeats it."""
        monkeypatch.setenv("BEADS_KEY", "sk-wrong")
        server.behaviour.key = "sk-secret"
        with pytest.raises(EngineError, match=r"^the server refuses the key in BEADS_KEY \(401\)$"):
            load(wanted(server, api_key_env="BEADS_KEY"), "beads")

    def test_a_key_in_the_words_of_an_error(
        self, server: CompletionsServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A server that quotes the key is not quoted with it."""
        monkeypatch.setenv("BEADS_KEY", "sk-secret")
        server.behaviour.status, server.behaviour.words = 400, "sk-secret\nmay not count beads"
        with pytest.raises(EngineError, match=r"\(400\): \(the key\) may not count beads$"):
            served(wanted(server, api_key_env="BEADS_KEY"))

    def test_a_key_in_a_stream(self, server: CompletionsServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server that repeats the key within an answer is not quoted with it either."""
        monkeypatch.setenv("BEADS_KEY", "sk-secret")
        server.behaviour.fault = "echo"
        with pytest.raises(EngineFailed, match=r"within a stream: no bead fits Bearer \(the key\)$"):
            served(wanted(server, api_key_env="BEADS_KEY"))

    def test_a_variable_that_is_not_set(self, server: CompletionsServer) -> None:
        """A variable without a key is named."""
        with pytest.raises(EngineError, match="names BEADS_KEY, and that environment variable is not set"):
            load(wanted(server, api_key_env="BEADS_KEY"), "beads")


class TestTrouble:
    @pytest.mark.key("openai.base_url")
    def test_no_server(self, server: CompletionsServer) -> None:
        """Where nothing listens, the address is named, and that the server must be started."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(
            EngineFailed, match=rf"no server answers at {url} \(Connection refused\): start it"
        ):
            load(wanted(server, base_url=url), "beads")

    def test_a_name_that_does_not_exist(self, server: CompletionsServer) -> None:
        """A host that has no address is no server either."""
        with pytest.raises(EngineFailed, match=r"no server answers at http://nowhere\.invalid/v1"):
            load(wanted(server, base_url="http://nowhere.invalid/v1"), "beads")

    def test_another_path(self, server: CompletionsServer) -> None:
        """An address without the API's root is told apart from a server that is not there."""
        url = server.base_url.removesuffix("/v1")
        with pytest.raises(EngineError, match=r"/models is not there \(404\): .* mostly ends in /v1"):
            load(wanted(server, base_url=url), "beads")

    @pytest.mark.key("openai.model")
    def test_another_model(self, server: CompletionsServer) -> None:
        """A model that the server does not have is refused with those that it has."""
        with pytest.raises(EngineError, match=r"no model 'pebbles': set openai\.model to one of beads"):
            load(wanted(server, model="pebbles"), "beads")
        with pytest.raises(EngineError, match=r"no model 'stones'"):
            load(wanted(server, model=None, model_name="random:stones"), "beads")
        assert load(wanted(server, model=None), "beads").effective()["model"] == "beads"

    @pytest.mark.parametrize(
        ("status", "kind", "message"),
        [
            (400, EngineError, r"the server refuses the request \(400\): the beads are stuck"),
            (404, EngineError, r"the server refuses the request \(404\)"),
            (422, EngineError, r"the server refuses the request \(422\)"),
            (429, EngineError, r"\(429\) with up to 8 in flight: lower openai\.concurrency or the load"),
            (500, EngineFailed, r"the server failed \(500\): the beads are stuck"),
            (503, EngineFailed, r"the server failed \(503\)"),
        ],
    )
    def test_a_status(
        self, server: CompletionsServer, status: int, kind: type[Exception], message: str
    ) -> None:
        """What the campaign can change is a refusal, what only the server can is a failure of its."""
        server.behaviour.status = status
        with pytest.raises(kind, match=message):
            served(wanted(server))

    @pytest.mark.parametrize(
        ("fault", "kind", "message"),
        [
            ("cut", EngineFailed, r"broke the stream off after 1 chunks|broke the connection off"),
            ("torn", EngineFailed, "broke the stream off within a chunk|broke the connection off"),
            ("error", EngineFailed, "failed within a stream: a bead fell off"),
            ("refusal", EngineError, r"refuses the request \(400\): no such bead"),
            ("uncounted", EngineError, r"counts no tokens in its stream: .*include_usage"),
            ("nonsense", EngineError, "not that of OpenAI's completions"),
        ],
    )
    def test_a_stream(
        self, server: CompletionsServer, fault: str, kind: type[Exception], message: str
    ) -> None:
        """A stream that is cut, torn, in error or without counts ends the pass with a sentence."""
        server.behaviour.fault = fault
        with pytest.raises(kind, match=message):
            served(wanted(server))

    @pytest.mark.key("openai.timeout_seconds")
    def test_silence(self, server: CompletionsServer) -> None:
        """A server that says nothing for longer than it may is not waited for."""
        server.behaviour.fault = "silent"
        with pytest.raises(EngineFailed, match=r"said nothing for 0\.2 s: .* raise openai\.timeout_seconds"):
            served(wanted(server, timeout_seconds=0.2))
        server.behaviour.fault = None
        served(wanted(server, timeout_seconds=0.2))
