"""docs/how-to/write-a-backend.md, taken at its word: its files are installed and run."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pytest_llem.executors.compose import files
from runs import results_of

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "write-a-backend.md").read_text()
FILES = dict(re.findall(r"^`([\w./-]+)`:\n\n```\w+\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
MISSING = PAGE.partition("## When something is missing")[2]
MESSAGES = dict(re.findall(r"^\| (.+) \| (the .+) \|$", MISSING, re.MULTILINE))
"""By what is wrong, what is said."""

Install = Callable[..., None]


@pytest.fixture
def install(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that installs the page's package, with files of it replaced or, by None, left out."""
    (pytester.path / "pytest.ini").write_text("[pytest]\n")

    def write(**changes: str | None) -> None:
        source = pytester.path / "source"
        for name, text in FILES.items():
            changed = changes.get(Path(name).stem, text)
            if changed is not None:
                (source / name).parent.mkdir(parents=True, exist_ok=True)
                (source / name).write_text(changed)
        (pytester.path / "parrots.yaml").write_text(FILES["parrots.yaml"])
        library = pytester.path / "library"
        options = [
            "--quiet",
            "--no-index",
            "--no-deps",
            "--no-build-isolation",
            "--disable-pip-version-check",
        ]
        command = [sys.executable, "-m", "pip", "install", *options, "--target", str(library), str(source)]
        subprocess.run(command, check=True, capture_output=True)
        monkeypatch.setenv("PYTHONPATH", str(library))

    return write


def test_the_page_is_whole() -> None:
    """The page has all files of the package, of its campaign and of its container."""
    assert FILES.keys() == {
        "pyproject.toml",
        "llem_parrot/__init__.py",
        "llem_parrot/spec.py",
        "llem_parrot/engine.py",
        "parrots.yaml",
        "Dockerfile",
        "compose.yaml",
    }
    assert len(MESSAGES) == 4


def test_it_runs(pytester: pytest.Pytester, install: Install) -> None:
    """The campaign of the page measures what the page says, and refuses what was not applied in its words."""
    install()
    done = pytester.runpytest_subprocess("--campaign=parrots.yaml")
    done.assert_outcomes(passed=8, failed=4)
    (said,) = re.findall(r"^    (invalid_config: .*)$", PAGE, re.MULTILINE)
    by_size: dict[int, set[str]] = {}
    for result in results_of(pytester.path):
        failure = result["failure"]
        outcome = f"{failure['kind']}: {failure['message']}" if failure else result["status"]
        by_size.setdefault(result["axes"]["batch_size"], set()).add(outcome)
    assert by_size == {1: {"completed"}, 4: {"completed"}, 8: {said}}


def test_what_is_measured(pytester: pytest.Pytester, install: Install) -> None:
    """A measurement of the page's backend has its times, its names in `effective`, and what it is silent about."""
    install()
    done = pytester.runpytest_subprocess("--campaign=parrots.yaml", "-k", "macaw and batch_size-4")
    done.assert_outcomes(passed=2)
    for result in results_of(pytester.path):
        measurement = result["measurement"]
        assert measurement["effective"].items() >= {"breed": "macaw", "flock": 4, "name": "polly"}.items()
        assert "max_output_tokens" in measurement["unconfirmed"]
        assert measurement["metrics"]["tpot_ms_mean"]["value"] >= 2
        assert measurement["mean_running_batch"] == pytest.approx(4, rel=0.1)


def test_a_typing_error(pytester: pytest.Pytester, install: Install) -> None:
    """A parameter that the page's spec does not know is refused with its place and the nearest name."""
    install()
    path = pytester.path / "parrots.yaml"
    path.write_text(path.read_text().replace("    breed:", "    parrot.bred:"))
    done = pytester.runpytest_subprocess("--campaign=parrots.yaml")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(
        ["ERROR: parrots.yaml:12:5: grid.shared.parrot.bred: unknown key; did you mean 'breed'?"]
    )


def test_a_refusal(pytester: pytest.Pytester, install: Install) -> None:
    """What the page's engine refuses reaches the author in its words."""
    install()
    done = pytester.runpytest_subprocess(
        "--campaign=parrots.yaml",
        "--campaign-set=defaults.fp_precision=float16",
        "-k",
        "grey and batch_size-1",
    )
    done.assert_outcomes(failed=2)
    assert {(r["failure"]["kind"], r["failure"]["message"]) for r in results_of(pytester.path)} == {
        ("invalid_config", "parrots speak in float32 alone: set fp_precision: float32")
    }


def test_a_broken_spec(pytester: pytest.Pytester, install: Install) -> None:
    """A spec that cannot be imported is one line for any session with a campaign, and none without."""
    install(spec=FILES["llem_parrot/spec.py"] + "\nimport feathers\n")
    done = pytester.runpytest_subprocess("--campaign=parrots.yaml")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    (said,) = [words for what, words in MESSAGES.items() if "spec.py" in what]
    assert [line for line in done.errlines if line] == [f"ERROR: {said}"]
    assert pytester.runpytest_subprocess().ret == pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.mark.parametrize(
    ("what", "engine"),
    [
        ("`engine.py` is not there", None),
        ("`engine.py` has no `load`", FILES["llem_parrot/engine.py"].replace("def load", "def hatch")),
        (
            "the engine has no `effective`",
            FILES["llem_parrot/engine.py"].replace("def effective", "def applied"),
        ),
    ],
)
def test_a_broken_engine(pytester: pytest.Pytester, install: Install, what: str, engine: str | None) -> None:
    """An engine that cannot be used fails its experiments with the page's sentence."""
    install(engine=engine)
    done = pytester.runpytest_subprocess("--campaign=parrots.yaml", "-k", "grey and batch_size-1")
    done.assert_outcomes(failed=2)
    said = MESSAGES[what].replace("/usr/bin/python3", sys.executable)
    assert {(r["failure"]["kind"], r["failure"]["message"]) for r in results_of(pytester.path)} == {
        ("engine_start", said)
    }


def test_the_container(tmp_path: Path) -> None:
    """The page's service is named like the backend, and its image stands on that of this package's own service."""
    (tmp_path / "compose.yaml").write_text(FILES["compose.yaml"])
    assert files.find(tmp_path, ["parrot"]) == [tmp_path / "compose.yaml"]
    packaged = yaml.safe_load(files.PACKAGED.read_text())["services"]["pytorch"]["image"]
    base = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", packaged)
    assert FILES["Dockerfile"].splitlines() == [
        f"FROM {base}",
        "COPY llem_parrot /opt/llem/lib/llem_parrot",
    ]
