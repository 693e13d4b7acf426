"""Prompts from files and datasets, in the tokens of the model's own tokenizer."""

from __future__ import annotations

import json
import os
import textwrap
from datetime import datetime
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from hub_sessions import assert_refused, by_axis, write
from pytest_llem.worker.workload import prompts_sha256
from standin.hub import Hub, Repository
from standin.models import SENTENCES


def ids_of(folder: Path, texts: list[str], tokens: int) -> list[list[int]]:
    """Return the token ids of texts, by the tokenizers library itself."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return [tokenizer.encode(text).ids[:tokens] for text in texts]


@pytest.mark.key("defaults.prompts_file")
def test_prompts_of_a_file(pytester: pytest.Pytester, hub: Hub, small: Path) -> None:
    """The model is given each file's texts in the tokens of its own tokenizer."""
    files = {"a.txt": SENTENCES, "b.jsonl": ["a dog", "a fox and a wizard"]}
    (pytester.path / "a.txt").write_text("\n".join(files["a.txt"]))
    (pytester.path / "b.jsonl").write_text(
        "\n".join(json.dumps({"prompt": text}) for text in files["b.jsonl"])
    )
    write(pytester.path, "shared: {prompts_file: [a.txt, b.jsonl]}", models="[org/small]", tokens=5)
    pytester.runpytest_subprocess("--campaign=c.yaml").assert_outcomes(passed=2)
    found = by_axis(pytester.path, "prompts_file")
    for name, texts in files.items():
        ids = ids_of(small, texts, 5)
        assert found[name]["measurement"]["prompt_tokens"] == sum(map(len, ids))
        assert found[name]["measurement"]["prompt_sha256"] == prompts_sha256(ids)


DATA = {
    "plain": ("{name: data}", "easy-train", "question"),
    "split": ("{name: data, split: test}", "easy-test", "question"),
    "subset": ("{name: data, subset: hard}", "hard", "question"),
    "column": ("{name: data, column: answer}", "easy-train", "answer"),
    "one row": ("{name: data, sample_size: 1}", "easy-train", "question"),
    "file": ("{name: data/hard.jsonl}", "hard", "question"),
    "hub": ("{name: org/data}", "easy-train", "question"),
}


def make_dataset(folder: Path) -> Path:
    """Make a dataset of two subsets, one of them with two splits."""
    folder.mkdir()
    for part in ("easy-train", "easy-test", "hard"):
        rows = [{"answer": f"{part} yes {n}", "question": f"{part} what {n}"} for n in range(3)]
        (folder / f"{part}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    description = """\
        ---
        configs:
        - config_name: easy
          default: true
          data_files:
          - {split: train, path: easy-train.jsonl}
          - {split: test, path: easy-test.jsonl}
        - config_name: hard
          data_files:
          - {split: train, path: hard.jsonl}
        ---
    """
    (folder / "README.md").write_text(textwrap.dedent(description))
    return folder


@pytest.mark.key(
    "defaults.dataset.name",
    "defaults.dataset.split",
    "defaults.dataset.subset",
    "defaults.dataset.column",
    "defaults.dataset.sample_size",
)
def test_prompts_of_a_dataset(pytester: pytest.Pytester, hub: Hub, small: Path) -> None:
    """Each key leads to the texts that it names; a path is relative to the rootdir; the engine asks no hub."""
    hub.repositories["org/data"] = Repository({"main": make_dataset(pytester.path / "data")})
    labels = "\n".join(f"    {label}: {{dataset: {keys}}}" for label, (keys, _, _) in DATA.items())
    write(pytester.path, f"bundles:\n  data:\n{labels}\n", models="[org/small]", tokens=30)
    pytester.mkdir("below")
    os.chdir(pytester.path / "below")
    done = pytester.runpytest_subprocess("--campaign=../c.yaml", f"--rootdir={pytester.path}")
    done.assert_outcomes(passed=len(DATA))
    found = by_axis(pytester.path, "data")
    for label, result in found.items():
        _, part, column = DATA[label]
        words = "what" if column == "question" else "yes"
        texts = [f"{part} {words} {n}" for n in range(1 if label == "one row" else 2)]
        assert result["measurement"]["prompt_sha256"] == prompts_sha256(ids_of(small, texts, 30)), label
    assert max(asked.at for asked in hub.asked) < datetime.fromisoformat(found["hub"]["started_at"])


def test_a_dataset_that_cannot_be_had(pytester: pytest.Pytester, hub: Hub) -> None:
    """A dataset that is not there is said at once, like a model."""
    write(pytester.path, "shared: {dataset.name: [data/none.jsonl, org/none]}", models="[org/small]")
    done = pytester.runpytest_subprocess("--campaign=c.yaml")
    assert_refused(
        pytester.path,
        done,
        r"the dataset data/none\.jsonl cannot be had: .*",
        r"the dataset org/none cannot be had: Dataset 'org/none' doesn't exist on the Hub or cannot be accessed\.",
    )
