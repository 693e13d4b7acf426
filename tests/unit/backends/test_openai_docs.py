"""docs/backends/openai.md against what the backend does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pytest_llem.backends.base import EngineError, EngineFailed
from pytest_llem.backends.openai.engine import load
from pytest_llem.backends.openai.spec import OpenAIParameters
from pytest_llem.records import Configuration
from standin.completions import serving

PAGE = (Path(__file__).parents[3] / "docs" / "backends" / "openai.md").read_text()
SAID = dict(re.findall(r"^\| (.+?) \| `[a-z_]+` \| (.+) \|$", PAGE, re.MULTILINE))

TROUBLE: dict[str, dict[str, Any]] = {
    "nothing listens at `base_url`": {"gone": True},
    "another path": {"root": ""},
    "401, 403": {"key": "sk-secret"},
    "another model": {"models": [{"id": "Qwen/Qwen2.5-0.5B"}], "model": "gpt2"},
    "400, 404, 422": {"status": 400},
    "429": {"status": 429},
    "500 and above": {"status": 500},
    "the connection is cut": {"fault": "cut", "chunks": 17},
    "no counts": {"fault": "uncounted"},
    "silence": {"fault": "silent", "timeout_seconds": 0.2},
}


def what_is_said(change: dict[str, Any]) -> tuple[str, str]:
    """Have a server do something, and return what is said of it, and its address."""
    with serving() as server:
        vars(server.behaviour).update({k: v for k, v in change.items() if hasattr(server.behaviour, k)})
        base_url = server.base_url.removesuffix("/v1") + change.get("root", "/v1")
        own = {"base_url": base_url, "vocabulary_size": 100, "model": change.get("model", "beads")}
        own["timeout_seconds"] = change.get("timeout_seconds", 30.0)
        parameters = OpenAIParameters.model_validate(own).model_dump()
        wanted = Configuration(max_output_tokens=4, parameters=parameters)
        if change.get("gone"):
            server.shutdown()
            server.server_close()
        with pytest.raises((EngineError, EngineFailed)) as caught:
            load(wanted, "beads").run_pass([[5]], wanted, lambda: None)
    return str(caught.value), base_url


def test_every_trouble_is_tried() -> None:
    """The page lists what is tried here, and nothing else."""
    assert SAID.keys() == TROUBLE.keys()


@pytest.mark.parametrize("what", TROUBLE)
def test_what_is_said(what: str) -> None:
    """Each sentence of the page is what is said, but for the address, numbers, and the server's own words."""
    said, base_url = what_is_said(TROUBLE[what])
    root = re.escape(base_url.removesuffix("/v1"))
    expected = re.escape(SAID[what].removesuffix("and its words"))
    expected = expected.replace(re.escape("http://127.0.0.1:8000"), root)
    expected = expected.replace("17", r"\d+").replace("120", r"[\d.]+")
    ends_open = SAID[what].endswith("and its words")
    either = r"|the server broke the connection off .*" if "chunks" in TROUBLE[what] else ""
    assert re.fullmatch(f"{expected}{'.+' if ends_open else ''}{either}", said)
