"""The documents say what is so: links lead somewhere, sources exist, commands and keys exist, figures are of a run."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from tradebft.lab import cli, run, wording
from tradebft.scenarios import catalogue, schema

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("chain", "consensus", "network", "scenarios", "service", "lab")
PAGES = [*sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*.md"))]
SOURCES = ROOT / "docs" / "sources.md"

LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")
SOURCE_ID = re.compile(r"\b[SPK]\d+[a-z]?\b")
BRACKETS = re.compile(r"\[([^\[\]\n]*\b[SP]\d+[a-z]?\b[^\[\]\n]*)\](?!\()")
PATH = re.compile(
    r"`((?:chain|consensus|network|scenarios|service|lab|tests|docs|examples|typings)/[\w./-]+)`"
)
BLOCK = re.compile(r"<!-- (\w+)(?:: (\S+))? -->\n```\w+\n(.*?)```", re.DOTALL)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def anchors(page: Path) -> set[str]:
    """What a heading can be linked as."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# --- what pages point to ---


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), f"{name(page)}: {target}"
        assert not anchor or anchor in anchors(path), f"{name(page)}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_that_are_named_exist(page: Path) -> None:
    for path in PATH.findall(page.read_text(encoding="utf-8")):
        assert (ROOT / path).exists(), f"{name(page)}: {path}"


def test_every_page_can_be_found() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    missing = [page.name for page in (ROOT / "docs").glob("*.md") if f"({page.name})" not in index]
    assert missing in ([], ["README.md"])


# --- sources ---


def known_sources() -> set[str]:
    rows = re.findall(r"^\| ([SPK]\d[^|]*) \|", SOURCES.read_text(encoding="utf-8"), re.MULTILINE)
    return {source for row in rows for source in SOURCE_ID.findall(row)}


def cited(text: str) -> set[str]:
    """Ids in square brackets, [S40]-[S43] and [S40-S43] written out at both ends."""
    return {source for group in BRACKETS.findall(text) for source in re.findall(r"\b[SP]\d+[a-z]?\b", group)}


def test_the_list_of_sources_has_no_source_twice() -> None:
    rows = re.findall(r"^\| ([SPK]\d[^|]*) \|", SOURCES.read_text(encoding="utf-8"), re.MULTILINE)
    ids = [source for row in rows for source in SOURCE_ID.findall(row)]
    assert len(ids) > 120
    assert len(set(ids)) == len(ids), sorted(s for s in ids if ids.count(s) > 1)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_cites_sources_that_are_listed(page: Path) -> None:
    unknown = cited(page.read_text(encoding="utf-8")) - known_sources()
    assert not unknown, f"{name(page)}: {sorted(unknown)}"


def test_code_and_data_cite_sources_that_are_listed() -> None:
    known, found = known_sources(), set()
    for room in ROOMS:
        for path in (ROOT / room).rglob("*"):
            if path.suffix in (".py", ".toml"):
                ids = cited(path.read_text(encoding="utf-8"))
            elif path.suffix == ".json":
                entries = json.loads(path.read_text(encoding="utf-8")).get("stages", [])
                ids = {i for entry in entries for i in SOURCE_ID.findall(entry["source"])}
            else:
                continue
            assert ids <= known, f"{name(path)}: {sorted(ids - known)}"
            found |= ids
    assert {"S3", "S67"} <= found


def test_the_domain_page_has_the_stages_that_are_run() -> None:
    """Durations in the text are those of the data files."""
    page = (ROOT / "docs" / "domain.md").read_text(encoding="utf-8")
    for file, process in (
        ("paper_stages.json", "export_receivables_paper"),
        ("digital_stages.json", "export_receivables_digital"),
    ):
        data = json.loads((ROOT / "scenarios" / "data" / file).read_text(encoding="utf-8"))
        for stage in data["stages"]:
            if stage["process"] != process or stage["dist"] == "measured":
                continue
            numbers = [float(x) for x in stage["params"]]
            row = next(line for line in page.splitlines() if line.startswith(f"| {stage['id']} |"))
            shown = re.search(rf"{stage['dist']}\(([^)]*)\)", row)
            assert shown, row
            assert [float(x) for x in shown[1].split(",")] == numbers, row


# --- commands and blocks ---


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for command in re.findall(r"(?:^ {4}\S*|`|&& \S*/)tradebft ([a-z][a-z-]*)", text, re.MULTILINE):
        assert command in cli.cli.commands, f"{name(page)}: tradebft {command}"
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for target in re.findall(r"(?:^ {4}|`)make ([a-z]+)", text, re.MULTILINE):
        assert target in targets, f"{name(page)}: make {target}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_settings_that_are_shown_are_accepted(page: Path) -> None:
    for line in page.read_text(encoding="utf-8").splitlines():
        called = re.match(r"^ {4}tradebft run (\S+)(.*)", line)
        if not called or called[1] not in catalogue.names():
            continue
        settings = dict(re.findall(r"--set ([\w.]+)=(\S+)", called[2]))
        assert schema.load(called[1], settings, None).name == called[1], line


def blocks(kind: str) -> list[Any]:
    found = []
    for page in PAGES:
        for number, (what, argument, body) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8"))):
            if what == kind:
                found.append(pytest.param(argument, body, id=f"{page.name}-{number}"))
    return found


@pytest.mark.parametrize(("_", "text"), blocks("scenario"))
def test_a_scenario_in_the_text_runs_and_shows_what_it_expects(_: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    finished = run(path)
    assert finished.failed == []
    assert finished.document["complete"]
    assert finished.document["invariants"]["violations"] == []


@pytest.mark.parametrize(("_", "text"), blocks("run"))
def test_python_in_the_text_runs(_: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(text, "tutorial", "exec"), {"__name__": "tutorial"})


@pytest.mark.parametrize(("file", "text"), blocks("file"))
def test_an_extract_is_in_the_file(file: str, text: str) -> None:
    assert text in (ROOT / file).read_text(encoding="utf-8"), f"{file} no longer contains what the page shows"


def test_there_are_blocks_to_check() -> None:
    assert len(blocks("scenario")) >= 2
    assert blocks("run")
    assert len(blocks("file")) >= 3


# --- the papers around the project ---


def test_the_changelog_has_the_headings_that_users_need() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (Unreleased|\d+\.\d+\.\d+)", text, re.MULTILINE)
    for heading in ("Added", "Results changed", "Scenario format"):
        assert f"\n### {heading}\n" in text


def test_the_citation_is_of_this_version() -> None:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    fields = dict(re.findall(r"^([a-z-]+): *(.*)$", text, re.MULTILINE))
    assert {"cff-version", "message", "title", "authors", "version", "license"} <= set(fields)
    assert fields["version"] == project["version"]
    assert fields["license"] == project["license"]


def test_no_index_of_packages_is_named() -> None:
    """pip's configuration says where packages come from."""
    named = re.compile(r"--index-url|--extra-index|--find-links|" + r"pypi\." + "org")
    for path in [
        ROOT / "Makefile",
        ROOT / "pyproject.toml",
        *PAGES,
        *ROOT.glob(".ci/*"),
        *ROOT.glob("scripts/*"),
        *(ROOT / ".github").rglob("*.*"),
    ]:
        if path.is_file():
            assert not named.search(path.read_text(encoding="utf-8")), name(path)


# --- README ---


def readme_rows(document: dict[str, Any]) -> list[str]:
    """The table on the first screen, of a run of `guizhou`."""
    rows = []
    titles = {"paper": "paper (calibrated)", "database": "central database"}
    for arm in ("paper", "database", "chain"):
        figures, ends = document["processes"][arm], document["processes"]["sensitivity"][arm]
        existing = wording.duration(figures["existing_customer_days"]["p50"])
        if arm == "paper":
            low, high = (ends[end]["existing_customer_days"] for end in ("low", "high"))
            existing += f" [{low:.1f}, {high:.1f}]"
        waits = figures["ledger_ms"]["p50"]
        cells = [
            titles.get(arm, f"chain, {document['nodes']} validators"),
            wording.duration(figures["new_customer_days"]["p50"]),
            existing,
            f"{figures['within_7_days']:.0%}".replace("%", " %"),
            f"{figures['frauds_disbursed']} of {figures['frauds']}",
            "" if waits is None else f"{waits:.0f} ms",
        ]
        rows.append("| " + " | ".join(cells).replace("|  |", "| |") + " |")
    return rows


@pytest.fixture(scope="module")
def guizhou() -> Any:
    return run("guizhou")


def readme_digest(document: dict[str, Any]) -> str:
    """The line under the table: which run its figures are of."""
    return f"`{document['scenario']}`, seed {document['seed']}, trace digest `{document['trace_digest']}`"


@pytest.mark.slow
def test_the_first_screen_shows_the_figures_of_a_run(guizhou: Any, rewrite: bool, tmp_path: Path) -> None:
    page = ROOT / "README.md"
    text = page.read_text(encoding="utf-8")
    rows = [row.replace(" |  |", " | |") for row in readme_rows(guizhou.document)]
    if rewrite:
        before, _, rest = text.partition("| paper (calibrated)")
        after = rest[rest.index("\n\n") :]
        after = re.sub(r"`guizhou`, seed \d+, trace digest `\w+`", readme_digest(guizhou.document), after)
        page.write_text(before + "\n".join(rows) + after, encoding="utf-8")
        picture = guizhou.save(tmp_path / "guizhou") / "figures" / "days_per_arm.svg"
        (ROOT / "docs" / "img" / "three-arms.svg").write_bytes(picture.read_bytes())
        text = page.read_text(encoding="utf-8")
    for row in rows:
        assert row in text, f"README.md lacks: {row}"
    assert readme_digest(guizhou.document) in text
    out_of_scope = sum(row["missed"] for row in guizhou.document["fraud"].values())
    assert f"The {out_of_scope} that were paid out on either" in text
    assert guizhou.failed == []


@pytest.mark.slow
def test_the_demo_is_quick(guizhou: Any) -> None:
    """Ours to keep: under two minutes on two cores, and under one for the simulation where nothing else runs."""
    assert guizhou.document["wall_seconds"] < 120
