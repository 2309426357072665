"""Nodes as services: a consortium made, started, used, stopped, damaged and started again, as its operators would."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from small_consortium import OFFICES, VALIDATORS, A, B, Consortium, Said, said, told
from tradebft.chain.crypto import Ed25519Signer, token

KEY = b"a token key of the regulator's"
FIRM = "firm.1"
USCC = token(KEY, "uscc", FIRM).hex()
DECLARATION = token(KEY, "declaration", "1").hex()
YEAR_NS = 365 * 86_400 * 10**9


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    made = Consortium(tmp_path_factory.mktemp("consortium") / "net")
    try:
        made.start(0, 1, 2, 3)
        yield made
    finally:
        made.close()


class Desk:
    """Everybody's client at work."""

    def __init__(self, consortium: Consortium, folder: Path) -> None:
        self.consortium, self._folder = consortium, folder
        self.firm_key = consortium.folder / "firm.key"
        if not self.firm_key.exists():
            Ed25519Signer(FIRM, bytes(range(32))).save(self.firm_key)

    def says(self, who: str, *words: object) -> Said:
        client = self.consortium.folder / "clients" / who / "client.toml"
        return told("client", "--config", client, *words)

    def submit(self, who: str, type: str, *words: object, **fields: Any) -> Said:
        path = self._folder / "payload.json"
        path.write_text(json.dumps({"type": type, **fields}))
        return self.says(who, "submit", path, *words)

    def firm_submits(self, type: str, **fields: Any) -> Said:
        return self.submit(A, type, "--sender", f"{FIRM}={self.firm_key}", **fields)


@pytest.fixture(scope="module")
def desk(consortium: Consortium, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(consortium, tmp_path_factory.mktemp("desk"))


@pytest.fixture(scope="module", autouse=True)
def course(desk: Desk) -> dict[str, str]:
    """An application from the firm's registration to the money, whichever tests a process runs; its ids."""
    course: dict[str, str] = {}
    public = Ed25519Signer(FIRM, bytes(range(32))).public_key.hex()
    now = time.time_ns()
    steps = [
        desk.submit(
            A, "FIRM_REGISTER", firm=FIRM, uscc=USCC, name_commitment="ab" * 32, customs_code="cd" * 32,
            grade="A", public_key=public,
        ),
        desk.submit(A, "KYC_ATTEST", firm=FIRM, level=1, expiry_ns=now + YEAR_NS),
        desk.firm_submits("CONSENT_GRANT", bank=A, scope=["financing"], from_ns=0, to_ns=now + YEAR_NS),
        desk.submit(
            "customs", "DECL_ANCHOR", declaration=DECLARATION, exporter=USCC, direction=0, currency="USD",
            value=100_000, export_date_ns=now, hs=["85044090"],
        ),
        desk.firm_submits(
            "FIN_APPLY", bank=A, product="export_receivable", amount=50_000, currency="USD", tenor_days=90,
            allocations=[{"declaration": DECLARATION, "amount": 50_000}],
        ),
    ]  # fmt: skip
    assert [(step.code, step.json["code"]) for step in steps] == [(0, "OK")] * 5, steps
    course["financing"] = financing = steps[-1].json["object"]
    course["transaction"] = steps[-1].json["transaction"]
    checker = desk.consortium.folder / "clients" / A / "checker.key"
    assert desk.submit(A, "DECL_VERIFY", financing=financing).json["headroom"] is True
    assert desk.submit(A, "FIN_RESERVE", financing=financing).code == 0
    refused = desk.submit(A, "FIN_APPROVE", financing=financing)
    assert (refused.code, refused.json["code"]) == (1, "E_MAKER_CHECKER")  # nobody approves alone
    approved = desk.submit(A, "FIN_APPROVE", "--cosigner", f"{A}/checker={checker}", financing=financing)
    assert approved.code == 0, approved
    assert desk.submit(A, "FIN_DISBURSE", financing=financing, amount=50_000, reference="pay 1").code == 0
    return course


def test_an_application_is_shown_to_its_bank_and_to_no_other(desk: Desk, course: dict[str, str]) -> None:
    financing = course["financing"]
    shown = desk.says(A, "status", financing)
    assert shown.json["financing"]["state"] == "DISBURSED"
    other = desk.says(B, "status", financing)
    assert (other.code, other.err) == (2, f"no financing {financing} that {B} may see\n")


def test_the_administrator_looks_and_the_look_is_on_record(desk: Desk, course: dict[str, str]) -> None:
    records = desk.says("administrator", "audit", "--firm", FIRM).json
    types = [record["receipt"]["type"] for record in records]
    assert {"FIRM_REGISTER", "FIN_APPLY", "FIN_DISBURSE"} <= set(types)
    assert "AUDIT_READ" not in types  # it is about no firm
    everything = desk.says("auditor", "view").json
    assert course["financing"] in [loan["id"] for loan in everything["financing"]]
    assert [r["receipt"]["sender"] for r in everything["records"] if r["receipt"]["type"] == "AUDIT_READ"] == [
        "administrator", "auditor",
    ]  # fmt: skip
    refused = desk.says(A, "audit")
    assert (refused.code, refused.err) == (2, "AUDIT_READ: E_ROLE sender\n")


def test_proof_of_a_transaction_convinces_whoever_knows_the_founding(
    desk: Desk, course: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    consortium = desk.consortium
    node = f"http://127.0.0.1:{consortium.http + 3}"
    out = tmp_path / "proof.json"
    assert desk.says(A, "proof", course["transaction"], "--node", node, "--out", out).code == 0
    founding = consortium.folder / "founding"
    shown = said(capsys, "check-proof", out, "--founding", founding)
    assert shown.code == 0
    assert shown.out.startswith(f"FIN_APPLY of {FIRM}: committed in block ")
    proof = json.loads(out.read_text())
    votes = proof["decided"][:-2] + f"{int(proof['decided'][-2:], 16) ^ 1:02x}"
    for change, reason in (
        ({"seq": proof["seq"] + 1}, "the certificate is not one of this block"),
        ({"transaction": "00" * 32}, f"the transaction {'00' * 32} is not in block {proof['seq']}"),
        ({"decided": votes}, "no quorum of the members signed this block"),
        ({"decided": "00"}, "the proof cannot be read"),
    ):
        out.write_text(json.dumps({**proof, **change}))
        refused = said(capsys, "check-proof", out, "--founding", founding)
        assert refused.code == 2
        assert refused.err.startswith(reason)


def test_health_and_metrics(consortium: Consortium) -> None:
    health = consortium.health(0)
    assert (health["status"], health["brokers"], health["evidence"]) == ("ok", 1, 0)
    assert health["height"] > 5
    status, text = consortium.get(0, "/metrics")
    assert status == 200
    families = text_string_to_metric_families(text)
    found = {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}
    assert found["tradebft_healthy",] == 1
    assert found["tradebft_height",] >= health["height"]
    assert found["tradebft_block_seconds_count",] == found["tradebft_blocks_total",]
    assert found["tradebft_sent_total", "Commit"] > 0
    assert found["process_resident_memory_bytes",] > 1e6
    assert consortium.get(0, "/nonsense")[0] == 404
    assert consortium.get(0, "/blocks/999999")[0] == 404
    assert consortium.get(0, "/blocks/" + "9" * 30)[0] == 404


def test_a_node_stops_when_told_and_goes_on_from_its_disk(desk: Desk) -> None:
    consortium = desk.consortium
    before = consortium.health(2)["height"]
    assert consortium.stop(2) == 0
    assert [line["event"] for line in consortium.log(2)][-1] == "stopped"
    assert desk.says("customs", "view").code == 0  # three of four go on
    consortium.start(2)
    started = [line for line in consortium.log(2) if line["event"] == "started"]
    assert started[-1]["height"] >= before
    assert started[-1]["network"] == consortium.founding.identity.hex()
    height = consortium.health(0)["height"]
    consortium.until(2, lambda health: health["height"] >= height)


def test_a_damaged_disk_is_told_and_fetched_again(desk: Desk) -> None:
    consortium = desk.consortium
    root = consortium.health(0)["root"]
    assert consortium.stop(3) == 0
    with sqlite3.connect(consortium.store(3)) as store:
        store.execute("UPDATE block SET data = zeroblob(length(data)) WHERE seq = 3")
    store.close()
    consortium.start(3)
    assert "damaged, to be fetched again" in [line["event"] for line in consortium.log(3)]
    assert consortium.store(3).with_name("store.db.damaged").exists()
    height = consortium.health(0)["height"]
    assert consortium.until(3, lambda health: health["height"] >= height)["root"] == root
    assert consortium.get(3, "/blocks/3")[0] == 200


def test_a_disk_that_lost_what_only_its_member_knew_is_refused(
    consortium: Consortium, capsys: pytest.CaptureFixture[str]
) -> None:
    assert consortium.stop(3) == 0
    store = sqlite3.connect(consortium.store(3))
    with store:
        store.execute("UPDATE record SET data = zeroblob(length(data))")
    store.close()
    refused = said(capsys, "node", "--config", consortium.settings(3))
    assert refused.code == 1
    assert "damaged: what only this member knew is lost" in refused.err.splitlines()[-1]


@pytest.mark.parametrize("who", [*VALIDATORS, *OFFICES])
def test_what_an_institution_gets_is_its_own(consortium: Consortium, who: str) -> None:
    folder = consortium.folder / "clients" / who
    assert folder.stat().st_mode & 0o777 == 0o700
    for secret in ("member.key", "broker.password"):
        assert (folder / secret).stat().st_mode & 0o777 == 0o600
    assert f'name = "{who}"' in (folder / "client.toml").read_text()
