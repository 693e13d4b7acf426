from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llem.backends.base import EngineError
from pytest_llem.records import Dataset
from pytest_llem.worker.workload import (
    Stream,
    column_texts,
    dataset_prompts,
    fixed,
    prompts_sha256,
    read_prompts,
    synthetic,
)

VOCABULARY = 500


def draw(stream: Stream = "window", number: int = 0, **changes: Any) -> list[list[int]]:
    """Draw the prompts of a pass, with long enough ones that no two are equal by chance."""
    wanted: dict[str, Any] = {"seed": 42, "count": 8, "length": 16, "special_token_ids": {0, 2}}
    return synthetic(stream, number, **({"vocabulary_size": VOCABULARY} | wanted | changes))


seeds = st.integers(0, 2**64)
passes = st.integers(0, 10_000)


class TestSynthetic:
    @given(
        seed=seeds,
        number=passes,
        count=st.integers(1, 6),
        length=st.integers(1, 40),
        special=st.frozensets(st.integers(0, VOCABULARY + 10), max_size=30),
    )
    def test_shape(self, seed: int, number: int, count: int, length: int, special: frozenset[int]) -> None:
        """A pass has `count` prompts of `length` ordinary ids, as plain ints."""
        prompts = draw(number=number, seed=seed, count=count, length=length, special_token_ids=special)

        assert [len(prompt) for prompt in prompts] == [length] * count
        for token in (token for prompt in prompts for token in prompt):
            assert type(token) is int
            assert 0 <= token < VOCABULARY
            assert token not in special

    @given(seed=seeds, number=passes)
    def test_again(self, seed: int, number: int) -> None:
        """The same pass of the same seed has the same prompts."""
        assert draw(seed=seed, number=number) == draw(seed=seed, number=number)

    @given(seed=seeds, one=passes, other=passes)
    def test_streams_are_disjoint(self, seed: int, one: int, other: int) -> None:
        """No prompt of the warm-up occurs in the window."""
        warmup = {tuple(prompt) for prompt in draw("warmup", one, seed=seed)}

        assert warmup.isdisjoint(tuple(prompt) for prompt in draw("window", other, seed=seed))

    @given(seed=seeds, numbers=st.sets(passes, min_size=2, max_size=2))
    def test_passes_are_disjoint(self, seed: int, numbers: set[int]) -> None:
        """No prompt of a pass occurs in another one."""
        one, other = numbers
        first = {tuple(prompt) for prompt in draw(number=one, seed=seed)}

        assert first.isdisjoint(tuple(prompt) for prompt in draw(number=other, seed=seed))

    @given(seed=seeds, count=st.integers(1, 7))
    def test_fewer_prompts_are_the_first(self, seed: int, count: int) -> None:
        """A configuration with fewer prompts serves the first of those that another one serves."""
        assert draw(seed=seed, count=count) == draw(seed=seed)[:count]

    def test_all_ids_occur(self) -> None:
        """Every ordinary id is drawn, the last of the vocabulary too."""
        drawn = {token for prompt in draw(count=64, length=256) for token in prompt}

        assert drawn == set(range(VOCABULARY)) - {0, 2}


class TestHash:
    def test_known_value(self) -> None:
        """The hash is that of lengths and ids as little-endian 32-bit words, on any machine."""
        from hashlib import sha256

        words = b"\x02\0\0\0\x01\0\0\0\x00\x01\0\0\x00\0\0\0"
        assert prompts_sha256([[1, 256], []]) == sha256(words).hexdigest()

    @given(st.lists(st.lists(st.integers(0, 2**32 - 1), max_size=4), max_size=4))
    def test_borders_count(self, prompts: list[list[int]]) -> None:
        """The same ids in one prompt more have another hash."""
        assert prompts_sha256(prompts) != prompts_sha256([*prompts, []])


def by_letter(texts: Sequence[str]) -> list[list[int]]:
    return [[ord(letter) for letter in text] for text in texts]


class TestFixed:
    def test_first_ones_cut(self) -> None:
        """The first texts are taken, each cut after the longest that is allowed."""
        assert fixed(by_letter, ["abc", "d", "e"], 2, 2) == [[97, 98], [100]]

    def test_too_few(self) -> None:
        """Too few texts are refused with both counts; none is repeated in silence."""
        with pytest.raises(EngineError, match="asks for 3 prompts and the source has 2"):
            fixed(by_letter, ["a", "b"], 3, 2)

    def test_nothing_left(self) -> None:
        """A text without a token is refused by its place."""
        with pytest.raises(EngineError, match="prompt 2 has no tokens"):
            fixed(by_letter, ["a", ""], 2, 2)


class TestPromptsFile:
    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("prompts.txt", "One two\n\n  three \n"),
            ("prompts.jsonl", '{"prompt": "One two"}\n\n"three"\n'),
            ("prompts.jsonl", '{"text": "One two", "id": 7}\n{"prompt": " three"}\n{"prompt": " "}'),
            ("prompts.json", '["One two", {"text": "three"}]'),
        ],
    )
    def test_read(self, tmp_path: Path, name: str, content: str) -> None:
        """Each kind of file gives its texts, stripped, without blank ones."""
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")

        assert read_prompts(path) == ["One two", "three"]

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("prompts.csv", "a,b", r"prompts\.csv: a prompts file ends in \.txt, \.jsonl, \.json"),
            ("prompts.jsonl", '"one"\n{"prompt":', r"prompts\.jsonl:2: this is not JSON"),
            ("prompts.jsonl", '"one"\n\n{"question": "x"}', r'prompts\.jsonl:3: .* "prompt" or "text"'),
            ("prompts.jsonl", '{"prompt": 7}', r'prompts\.jsonl:1: .* "prompt" or "text"'),
            ("prompts.json", '["one", 2]', r'prompts\.json: entry 2: .* "prompt" or "text"'),
            ("prompts.json", '{"prompt": "one"}', r"prompts\.json: a \.json prompts file holds a list"),
            ("prompts.json", "[", r"prompts\.json: this is not JSON"),
        ],
    )
    def test_refused(self, tmp_path: Path, name: str, content: str, message: str) -> None:
        """What is no prompt is refused with file and place."""
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")

        with pytest.raises(ValueError, match=message):
            read_prompts(path)


class TestDataset:
    def test_texts(self) -> None:
        """A prompt is a string, or what the user says first; blank ones are left out."""
        rows: list[dict[str, Any]] = [
            {"p": " one "},
            {"p": " "},
            {"p": [{"from": "gpt", "value": "hello"}, {"from": "human", "value": "two"}]},
            {"p": [{"role": "user", "content": "three"}, {"role": "user", "content": "four"}]},
            {"p": []},
        ]

        assert list(column_texts(rows, "p")) == ["one", "two", "three"]

    def test_no_texts(self) -> None:
        """A column of something else is refused by name."""
        with pytest.raises(EngineError, match="column p holds neither texts nor conversations"):
            list(column_texts([{"p": 7}], "p"))

    def test_package_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without the package the message says what to install."""
        monkeypatch.setitem(sys.modules, "datasets", None)

        with pytest.raises(
            EngineError, match=r"own/data needs the package datasets: pip install 'pytest-llem\["
        ):
            dataset_prompts(Dataset(name="own/data"), 3)


class TestDatasetFolder:
    """The real package on a folder of this machine."""

    @pytest.fixture(autouse=True)
    def _own_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        datasets = pytest.importorskip("datasets")
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")

    @pytest.fixture
    def folder(self, tmp_path: Path) -> str:
        folder = tmp_path / "data"
        folder.mkdir()
        rows = [{"question": f"q{number}" if number else "", "answer": "a"} for number in range(6)]
        (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        return str(folder)

    def test_first_texts(self, folder: str) -> None:
        """The first texts of the column that looks like prompts are taken, without blank ones."""
        assert dataset_prompts(Dataset(name=folder), 3) == ["q1", "q2", "q3"]

    @pytest.mark.key("defaults.dataset.name", "defaults.dataset.split", "defaults.dataset.subset")
    @pytest.mark.key("defaults.dataset.column")
    def test_each_key_picks(self, folder: str, tmp_path: Path) -> None:
        """Name, split, subset and column lead to texts of their own."""
        other = tmp_path / "other"
        for split in ("train", "test"):
            for subset in ("a", "b"):
                path = other / subset / f"{split}.jsonl"
                path.parent.mkdir(parents=True, exist_ok=True)
                words = f"{subset} {split}"
                path.write_text(json.dumps({"text": words, "topic": f"topic of {words}"}), encoding="utf-8")
        parts = "\n".join(f"- {{config_name: {name}, data_dir: {name}}}" for name in ("a", "b"))
        (other / "README.md").write_text(f"---\nconfigs:\n{parts}\n---\n", encoding="utf-8")
        there = Dataset(name=str(other), subset="a")

        assert dataset_prompts(Dataset(name=folder), 1) == ["q1"]
        assert dataset_prompts(there, 1) == ["a train"]
        assert dataset_prompts(there.model_copy(update={"split": "test"}), 1) == ["a test"]
        assert dataset_prompts(there.model_copy(update={"subset": "b"}), 1) == ["b train"]
        assert dataset_prompts(there.model_copy(update={"column": "topic"}), 1) == ["topic of a train"]

    def test_sample_size(self, folder: str) -> None:
        """No row beyond the sample is looked at."""
        assert dataset_prompts(Dataset(name=folder, sample_size=3), 5) == ["q1", "q2"]

    def test_unknown_column(self, folder: str) -> None:
        """A column that is not there is refused with those that are."""
        with pytest.raises(
            EngineError, match=r"no column prompt: set dataset\.column to one of question, answer"
        ):
            dataset_prompts(Dataset(name=folder, column="prompt"), 3)

    def test_unknown_split(self, folder: str) -> None:
        """A split that is not there is refused with the package's own words."""
        with pytest.raises(EngineError, match=r'cannot be loaded: .*"nonsense"'):
            dataset_prompts(Dataset(name=folder, split="nonsense"), 3)


def test_light_import() -> None:
    """The host reads prompts files without importing numpy, torch or datasets."""
    code = (
        "import sys, pytest_llem.worker.workload; print({'numpy', 'torch', 'datasets'} & sys.modules.keys())"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"
