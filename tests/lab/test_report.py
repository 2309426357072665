"""The report: whole in itself, in plain words, and different where the case is different."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from types import ModuleType
from typing import Any

import pytest
from tradebft.chain.rules.context import CODES
from tradebft.lab import figure_style, figures, findings, metrics, provenance, report
from tradebft.lab.run import run

SVG = '<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"><g id="x"/></svg>\n'


@pytest.fixture(scope="module")
def trade(fake: ModuleType) -> dict[str, Any]:
    return metrics.document(fake.trade_records(applications=400, faults=True))


@pytest.fixture(scope="module")
def synthetic(fake: ModuleType) -> dict[str, Any]:
    return metrics.document(fake.synthetic_records(transactions=50))


class Page(HTMLParser):
    """The page's tags, its references to anything outside, and its text."""

    VOID = ("meta", "link", "br", "img", "hr", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.outside += [
            value for name, value in attrs if name in ("src", "href") and value and not value.startswith("#")
        ]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words += data


def words(document: dict[str, Any]) -> str:
    return re.sub(r"\s+", " ", Page(report.html(document, {})).words)


def test_the_page_is_well_formed_and_needs_nothing_from_outside(trade: dict[str, Any]) -> None:
    text = report.html(trade, {"days_per_arm": SVG, "commit_latency": SVG})
    page = Page(text)
    assert page.open == []
    assert page.outside == []
    assert "url(" not in text.replace("url(#", "")
    assert text.count("<svg role=") == 2
    assert "<?xml" not in text


def test_figures_are_numbered_in_the_order_of_the_page(trade: dict[str, Any]) -> None:
    text = report.html(trade, {"days_per_arm": SVG, "frauds_by_kind": SVG, "commit_latency": SVG})
    assert re.findall(r"Figure (\d)\.", text) == ["1", "2", "3"]


def test_the_headline_gives_the_medians_and_that_a_database_does_the_same(trade: dict[str, Any]) -> None:
    paper = trade["processes"]["paper"]["new_customer_days"]["p50"]
    line = findings.headline(trade)
    assert f"{paper:.1f} days" in line
    assert line.endswith("A central database does the same.")


def test_it_says_in_plain_words_that_consensus_is_not_what_saves_the_days(trade: dict[str, Any]) -> None:
    text = words(trade)
    assert "consensus is not what saves the days" in text
    assert "without one of them having to be its operator" in text
    assert "calibrated, not measured" in text
    assert "21.4 days to 41.0 days for new customers" in text


def test_a_chain_slower_than_the_database_is_not_called_the_same(trade: dict[str, Any]) -> None:
    changed = metrics.strict(trade)
    for key in findings.CUSTOMERS:
        changed["processes"]["chain"][key] = {**changed["processes"]["chain"][key], "p50": 9.0}
    assert "not what saves the days" not in words(changed)
    assert not findings.headline(changed).endswith("does the same.")


def test_milliseconds_and_days_never_share_a_sentence(
    trade: dict[str, Any], synthetic: dict[str, Any]
) -> None:
    for document in (trade, synthetic):
        said = (
            findings.month(document)
            + findings.ledger_speed(document)
            + findings.what_saves_the_days(document)
        )
        for sentence in re.split(r"(?<=[.;:])\s", " ".join([*said, findings.headline(document)])):
            assert not (re.search(r"\d ms\b", sentence) and re.search(r"\d (days|hours)\b", sentence)), (
                sentence
            )


def test_what_is_missed_is_said_by_name(trade: dict[str, Any]) -> None:
    text = " ".join(findings.frauds(trade))
    assert "It caught all of them." in text
    assert "15 applications of kinds that no shared ledger can see (lender outside the platform;" in text
    trade = metrics.strict(trade)
    trade["fraud"]["F1"] |= {"caught": 5, "missed": 4}
    trade["settings"]["workload"]["bank_coverage"] = 0.5
    assert "It caught 81 and missed 4. Only 50 % of the banks are on the platform" in " ".join(
        findings.frauds(trade)
    )


def test_a_synthetic_scenario_is_told_as_consensus_alone(synthetic: dict[str, Any]) -> None:
    text = words(synthetic)
    assert findings.headline(synthetic).startswith("16 replicas answered 50 requests")
    assert "exactly those that PBFT's normal case needs" in text
    for absent in ("customers", "Paper", "What was put in", "Frauds"):
        assert absent not in text


def test_faults_are_told_with_their_time(trade: dict[str, Any]) -> None:
    assert "crash of commercial bank 2, from day 4, 00:00 for 2.0 h. View changes: 1." in words(trade)


def test_a_fault_without_an_end_lasts_to_the_end(fake: ModuleType) -> None:
    records = fake.synthetic_records(nodes=7, transactions=60)
    records.faults = [(1_000_000, -1, "crash", "replica.3")]
    document = metrics.document(records)
    assert document["faults"][0]["end_seconds"] is None
    assert "crash of replica 3, from second 0.001 to the end. View changes: 0." in words(document)
    with figure_style.style():
        (figure,) = [drawn for name, _, drawn in figures.draw(document, records) if name == "commit_latency"]
    _, course = figure.axes
    (shaded,) = [patch for patch in course.patches if patch.get_alpha()]
    assert shaded.get_x() == 0.001  # seconds, as its axis
    assert shaded.get_x() + shaded.get_width() >= course.get_xlim()[1]


def test_a_violation_stands_above_everything_else(trade: dict[str, Any]) -> None:
    broken = metrics.strict(trade)
    broken["invariants"]["violations"] = [{"invariant": "agreement", "what": "two batches at seq 12"}]
    broken["false_alarms"] = 1
    text = report.html(broken, {})
    assert text.index('class="alarm"') < text.index('class="headline"')
    assert "agreement: two batches at seq 12" in text
    assert "False alarms: the ledger rejected 1 honest application." in text
    assert "No violation." not in text


def test_an_interrupted_run_and_unmet_expectations_are_announced(trade: dict[str, Any]) -> None:
    cut = metrics.strict(trade) | {"complete": False, "expectations_failed": ["expected a.b < 4, measured 5"]}
    cut["processes"]["paper"] |= {"unfinished": 60, "honest": 100}
    text = words(cut)
    assert "This run was interrupted." in text
    assert "expected a.b < 4, measured 5" in text
    assert "Paper: 60 of 100 honest applications were unfinished" in text
    assert findings.alarms(trade) == []


def test_names_from_a_scenario_are_escaped(trade: dict[str, Any]) -> None:
    hostile = metrics.strict(trade) | {"title": "<script>alert(1)</script>"}
    hostile["settings"]["question"] = "a < b & c"
    text = report.html(hostile, {})
    assert "<script" not in text
    assert "a &lt; b &amp; c" in text


def test_every_stage_on_paper_names_its_source_and_confidence() -> None:
    rows = provenance.stages()
    assert [row["stage"].split()[0] for row in rows] == [f"B{i}" for i in range(1, 11)]
    assert all(row["source"] and row["confidence"] for row in rows)
    named = {source for row in rows for source in re.findall(r"[A-Z]\d*", row["source"])}
    known = " ".join(key for key, _ in provenance.sources(rows))
    assert all(source in known for source in named - {"S41", "S42"})


def test_settings_without_a_source_are_listed_with_their_values() -> None:
    settings = {
        "workload": {"kind": "trade-finance", "officers_per_bank": 4, "policy": {"ratio_bp": 8000}},
        "network": {"links": {"model": "distance", "route_factor": 1.6}},
    }
    rows = {key: value for key, value, _ in provenance.assumed_settings(settings)}
    assert rows == {
        "workload.officers_per_bank": "4",
        "workload.policy.ratio_bp": "8000",
        "network.links.route_factor": "1.6",
    }
    assert provenance.assumed_settings({"workload": {"kind": "synthetic"}}) == []


def test_the_notebooks_table_is_small_and_whole(trade: dict[str, Any], synthetic: dict[str, Any]) -> None:
    assert Page(report.summary_html(trade)).open == []
    assert "Consortium chain" in report.summary_html(trade)
    assert "Consortium chain" not in report.summary_html(synthetic)


def test_the_citation_has_what_a_reader_needs_to_run_it_again(trade: dict[str, Any]) -> None:
    line = report.citation(trade)
    assert all(part in line for part in ("guizhou", "seed 1", trade["version"], trade["trace_digest"]))


def test_the_headline_is_a_sentence(trade: dict[str, Any]) -> None:
    assert findings.headline(trade).startswith("From ")
    assert "the median wait of a new customer for money" in findings.headline(trade)
    without = metrics.strict(trade)
    for arm in ("paper", "chain"):
        without["processes"][arm]["new_customer_days"]["count"] = 0
    assert "the median wait of an existing customer for money" in findings.headline(without)
    alone = run("stress", set={"network.nodes": 1, "workload.transactions": 1}).document
    assert findings.headline(alone).startswith("1 replica answered 1 request; ")
    busy = run("stress", set={"workload.transactions": 300}).document
    assert "Offered 11,242 requests a second, committed 6,210." in words(busy)


def test_every_refusal_is_explained_in_the_ledgers_own_words(trade: dict[str, Any]) -> None:
    refused = metrics.strict(trade)
    refused["ledger"]["rejected"] = dict.fromkeys(CODES, 1)
    text = words(refused)
    assert [code for code, meaning in CODES.items() if f"{code}{meaning}1" not in text] == []


def test_what_real_members_did_is_not_called_simulated(synthetic: dict[str, Any]) -> None:
    simulated = words(synthetic)
    assert "of simulated time in" in simulated
    assert "the same trace digest on any machine" in simulated
    real = words(metrics.strict(synthetic) | {"bus": "mqtt", "trace_digest": None})
    assert "of real time over the mqtt bus." in real
    assert "tradebft run scenario.toml --seed 1 --bus mqtt" in real
    assert "seed 1, in real time over the mqtt bus" in real
    for absent in ("simulated time", "on every step of the run", "same trace digest", "trace digest none"):
        assert absent not in real
