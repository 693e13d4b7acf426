"""The pages about campaign files and metrics, held against the code that they describe."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from pytest_llem.architectures import FAMILIES
from pytest_llem.backends.base import Request
from pytest_llem.backends.registry import registered
from pytest_llem.campaign import v1
from pytest_llem.campaign.grid import expand
from pytest_llem.campaign.keys import campaign_keys, experiment_keys
from pytest_llem.campaign.loader import CampaignError, load
from pytest_llem.campaign.rules import FILTERED, WARNED, WITHOUT_EFFECT
from pytest_llem.campaign.schema import NOT_YET, Budget, ExperimentEntry
from pytest_llem.campaign.tables import Key, table_of
from pytest_llem.meters.estimate import RATED_W_PER_CPU, RATED_W_VARIABLE
from pytest_llem.records import METRICS, Source
from pytest_llem.worker.metrics import PERCENTILES, latency
from pytest_llem.worker.workload import PROMPT_COLUMNS

ROOT = Path(__file__).parents[2]
CAMPAIGN_FILE = (ROOT / "docs/campaign-file.md").read_text()
RULES_PAGE = (ROOT / "docs/rules.md").read_text()
METRICS_PAGE = (ROOT / "docs/metrics.md").read_text()
BACKENDS = {name: registered()[name] for name in ("openai", "pytorch", "tensorrt", "vllm")}

SMALLEST = {"campaign_name": "demo", "model": "some/model", "grid": {"backends": ["pytorch"]}}
"""What an example of a section lacks to be a campaign."""

Row = list[str]


# --- Reading a page ---


def tables(page: str, header: str) -> Iterator[Row]:
    """Yield the cells of each row of the tables whose header begins like `header`."""
    inside = False
    for line in page.splitlines():
        if not line.startswith("|"):
            inside = False
        elif line.startswith(header):
            inside = True
        elif inside and not line.startswith("|---"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def yaml_blocks(page: str) -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def code(cell: str) -> str:
    """Return the first piece of code in a cell."""
    return cell.split("`")[1]


# --- docs/campaign-file.md ---


def documented() -> dict[str, Row]:
    rows = list(tables(CAMPAIGN_FILE, "| key | type, unit | default |"))
    found = {code(row[0]): row for row in rows}
    assert len(found) == len(rows)
    return found


def keys() -> dict[str, Key]:
    """Return every key that an author may write, as the page spells it."""
    entry = table_of(ExperimentEntry, "experiments[].").keys
    return {
        **campaign_keys(("<backend>",)).keys,
        **{name: key for name, key in entry.items() if not name.endswith(".inline")},
        **table_of(Budget, "expect.<metric>.").keys,
        **experiment_keys(BACKENDS).keys,
    }


def waits(name: str) -> bool:
    return name.replace("<backend>", "*") in NOT_YET or f"defaults.{name}" in NOT_YET


DOCUMENTED, KEYS = documented(), keys()


def test_every_key_is_described() -> None:
    """The page describes the keys of the schema, each in one row, and no others."""
    assert DOCUMENTED.keys() == KEYS.keys()


@pytest.mark.parametrize("name", KEYS)
def test_a_default_is_that_of_the_schema(name: str) -> None:
    """A required key is called so; any other shows its default."""
    cell, key = DOCUMENTED[name][2], KEYS[name]
    assert cell.startswith("required") is key.required
    if not key.required:
        shown: Any = yaml.safe_load(code(cell))
        assert (tuple(shown) if isinstance(shown, list) else shown) == key.default


@pytest.mark.parametrize("name", KEYS)
def test_a_key_without_effect_is_marked(name: str) -> None:
    """What stands in NOT_YET says so in the page, and nothing else does."""
    assert ("No effect yet" in DOCUMENTED[name][3]) is waits(name)


def test_every_rule_has_its_line() -> None:
    """The page has a line for each rule, with the backend that it looks at and its reason, and no other line."""
    for verdict, rules in (("never runs", FILTERED), ("runs with a warning", WARNED)):
        section = RULES_PAGE.partition(f"## What {verdict}")[2].partition("\n## ")[0]
        listed = [(row[0], row[1].strip("`"), row[2]) for row in tables(section, "| rule |")]
        assert listed == [
            (rule.name, rule.backend or "all", rule.reason.format(backend="`<backend>`")) for rule in rules
        ]
    keys = [
        (row[0], row[1].strip("`"), row[2], row[3]) for row in tables(RULES_PAGE, "| rule | backend | keys")
    ]
    assert keys == [
        (one.name, one.backend or "all", ", ".join(f"`{key}`" for key in one.keys), one.why)
        for one in WITHOUT_EFFECT
    ]


def test_every_old_key_is_listed() -> None:
    """The page names what of llenergymeasure v1 is mapped, accepted and refused, and v1's other defaults."""
    section = CAMPAIGN_FILE.partition("## Files of llenergymeasure v1")[2].partition("\n## ")[0]
    named = set(re.findall(r"`([^`]*)`", section))
    old = {*v1.RENAMED, *v1._HANDLERS, *v1._ONLY, *v1._WITHOUT_EFFECT, *v1._CAMPAIGN_ONLY}
    assert old - named == set()
    theirs = {code(row[0]): yaml.safe_load(row[2]) for row in tables(section, "| key | here | v1 |")}
    ours = {code(row[0]): yaml.safe_load(row[1]) for row in tables(section, "| key | here | v1 |")}
    assert theirs == v1.DEFAULTS
    assert ours == {name: KEYS[name].default for name in v1.DEFAULTS}


@pytest.mark.parametrize(
    ("line", "message"), [(code(row[0]), row[1]) for row in tables(CAMPAIGN_FILE, "| line | message |")]
)
def test_a_message_is_what_is_said(tmp_path: Path, line: str, message: str) -> None:
    """Each line that the page calls wrong is refused with the page's words."""
    (tmp_path / "demo.yaml").write_text(yaml.safe_dump(SMALLEST) + line)
    with pytest.raises(CampaignError, match=rf"^demo\.yaml:\d+:\d+: {re.escape(message)}"):
        load(tmp_path / "demo.yaml", tmp_path, backends=BACKENDS)


def test_the_columns_of_a_data_set_are_named() -> None:
    """The page gives the names under which prompts are looked for, in their order, and the short names."""
    assert ", ".join(PROMPT_COLUMNS) in DOCUMENTED["dataset.column"][3]
    assert all(f"`{name}`" in CAMPAIGN_FILE for name in v1.DATASETS if "_" not in name)


# --- Examples ---

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = [
    pytest.param(page, block, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, block in enumerate(yaml_blocks(page.read_text()))
    if not re.match(r"# \S+\.yaml\n", block)
]


@pytest.mark.parametrize(("page", "block"), EXAMPLES)
def test_an_example_is_a_campaign_that_runs(page: Path, block: str, tmp_path: Path) -> None:
    """Each campaign of a page loads and has points to run; an example of a section does as part of one.

    A block that begins with `# <path>.yaml` is that file.
    """
    for other in yaml_blocks(page.read_text()):
        if named := re.match(r"# (\S+\.yaml)\n", other):
            file = tmp_path / named[1]
            file.parent.mkdir(exist_ok=True)
            file.write_text(other)
    lacking = {key: value for key, value in SMALLEST.items() if key not in yaml.safe_load(block)}
    text = block if "campaign_name" in block else yaml.safe_dump(lacking) + block
    (tmp_path / "demo.yaml").write_text(text)
    loaded = load(tmp_path / "demo.yaml", tmp_path, backends=BACKENDS)
    assert expand(loaded, BACKENDS).points


def test_the_example_of_a_grid_has_the_size_that_is_said(tmp_path: Path) -> None:
    """The page counts the points of its own example."""
    before, _, after = CAMPAIGN_FILE.partition("This generates ")
    (tmp_path / "demo.yaml").write_text(yaml_blocks(before)[-1])
    expansion = expand(load(tmp_path / "demo.yaml", tmp_path, backends=BACKENDS), BACKENDS)
    generated, dropped = re.findall(r"= (\d+) points and drops (\d+)", after)[0]
    assert (expansion.generated, len(expansion.filtered)) == (int(generated), int(dropped))


# --- docs/metrics.md ---


def test_every_metric_is_defined() -> None:
    """The page defines the metrics, in their order and with their units, and no others."""
    rows = tables(METRICS_PAGE, "| metric | unit | definition | source |")
    assert [(code(row[0]), row[1]) for row in rows] == [(name, m.unit) for name, m in METRICS.items()]


def test_every_source_is_named() -> None:
    """The page says what each source of a number is."""
    named = {
        name
        for row in tables(METRICS_PAGE, "| source | what it is |")
        for name in re.findall(r"`(\w+)`", row[0])
    }
    assert named == set(get_args(Source))


def test_a_percentile_needs_so_many_times() -> None:
    """With as many distinct times as the page says a percentile has a value, with one less it has none."""
    needed = {
        int(row[0].removeprefix("p")): int(row[1])
        for row in tables(METRICS_PAGE, "| percentile | distinct times needed |")
    }
    assert tuple(needed) == PERCENTILES
    for percent, count in needed.items():
        served = [Request(begin_s, begin_s + 1, begin_s + 2, 1, 2) for begin_s in range(count)]
        name = f"e2e_latency_ms_p{percent}"
        assert latency(served)[name].value == 2000
        assert latency(served[1:])[name].value is None


def test_every_known_architecture_is_named() -> None:
    """The page lists the model types whose FLOPs are known, and no others."""
    listed = METRICS_PAGE.partition("Known by `model_type`: ")[2].partition(". ")[0]
    assert re.findall(r"`(\w+)`", listed) == sorted(FAMILIES)


def test_the_constant_of_the_model_is_named() -> None:
    """The page has the assumption of modelled energy, its number and the variable that changes it."""
    assert f"x {RATED_W_PER_CPU:g} W" in METRICS_PAGE
    assert RATED_W_VARIABLE in METRICS_PAGE


# --- All pages ---


def anchors(page: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_link_leads_somewhere(page: Path) -> None:
    """Each relative link of a page names a file that is there, and a heading in it."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" not in target:
            name, _, anchor = target.partition("#")
            there = page.parent / name if name else page
            assert there.exists(), target
            assert not anchor or anchor in anchors(there.read_text()), target
