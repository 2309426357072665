"""Questions to the ledger: who may know what, and the same bytes wherever they are answered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from town import Town
from tradebft.chain.crypto import QuorumCertificate
from tradebft.chain.rules.payloads import AuditRead
from tradebft.consensus.messages import Batch, Decided, Request
from tradebft.network import queries
from tradebft.network.application import LedgerApplication
from tradebft.network.queries import Query, answer, is_query


def asked(town: Town, who: str, query: Query) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(answer(town.ledger, who, query.operation()))
    return told


@pytest.fixture
def lent(town: Town) -> tuple[Town, bytes]:
    """A town in which firm.1 has applied to bank A; and the financing."""
    financing = town.verified({town.declare(): 50_000})
    return town, financing


def test_an_application_is_shown_to_its_firm_its_bank_and_the_regulator(lent: tuple[Town, bytes]) -> None:
    town, financing = lent
    for who in ("firm.1", Town.A, "administrator", "auditor"):
        assert asked(town, who, Query("financing", financing))["financing"]["state"] == "VERIFIED"
    for who in ("firm.2", Town.B, "customs"):
        assert "no financing" in asked(town, who, Query("financing", financing))["error"]


def test_a_receipt_is_shown_to_whoever_it_concerns(lent: tuple[Town, bytes]) -> None:
    town, _ = lent
    applied = town.ledger.audit[1].receipt
    assert (applied.sender, applied.type) == ("firm.1", "FIN_APPLY")
    refused = town.do(town.application({town.token(): 5}), "firm.1")
    assert refused.code == "E_DECL_UNKNOWN"
    for receipt, may in (
        (applied, {"firm.1", Town.A, "administrator", "auditor"}),
        (refused, {"firm.1", "administrator", "auditor"}),
    ):
        for who in (*may, "firm.2", Town.A, Town.B, "customs"):
            told = asked(town, who, Query("receipt", receipt.transaction))
            if who in may:
                assert (told["receipt"]["code"], told["receipt"]["height"]) == (receipt.code, receipt.height)
            else:
                assert "no transaction" in told["error"]


def test_an_audit_needs_a_look_on_record_by_whoever_asks(lent: tuple[Town, bytes]) -> None:
    town, _ = lent
    assert "AUDIT_READ" in asked(town, "administrator", Query("audit"))["error"]
    assert "neither" in asked(town, Town.A, Query("audit"))["error"]
    look = town.must(AuditRead("audit"), "auditor").transaction
    assert "AUDIT_READ" in asked(town, "administrator", Query("audit", look))["error"]
    told = asked(town, "auditor", Query("audit", look, firm="firm.1"))
    assert {record["firm"] for record in told["records"]} == {"firm.1"}
    assert "AUDIT_READ" in asked(town, "administrator", Query("view"))["error"]
    assert asked(town, "auditor", Query("view", look))["financing"]


def test_a_long_audit_comes_in_pages(lent: tuple[Town, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    town, _ = lent
    look = town.must(AuditRead("audit"), "auditor").transaction
    monkeypatch.setattr(queries, "RECORDS_MAX", 2)
    numbers: list[int] = []
    first: int | None = 0
    while first is not None:
        told = asked(town, "auditor", Query("audit", look, first=first))
        assert len(told["records"]) <= 2
        numbers += [record["number"] for record in told["records"]]
        first = told["next"]
    assert numbers == list(range(len(town.ledger.audit)))


def test_the_next_number_is_above_all_that_were_used(town: Town) -> None:
    assert asked(town, "auditor", Query("head"))["next_sequence"] == 1
    for _ in range(2):
        town.must(AuditRead("audit"), "auditor", expiry_height=town.ledger.height + 3)
    head = asked(town, Town.A, Query("head", firm="auditor"))
    assert (head["next_sequence"], head["height"]) == (3, 2)
    for _ in range(4):  # the two receipts are forgotten, and their numbers are not
        town.block()
    assert town.ledger.receipt("auditor", 2) is None
    assert asked(town, "auditor", Query("head"))["next_sequence"] == 3


@pytest.mark.parametrize(
    "operation", [b"", b"x", Query("head").operation()[15:] * 2], ids=["none", "x", "twice"]
)
def test_nonsense_is_answered_and_nothing_raises(town: Town, operation: bytes) -> None:
    assert "error" in json.loads(answer(town.ledger, Town.A, b"tradebft/query\0" + operation))
    assert "not a member" in asked(town, "nobody", Query("head"))["error"]


def test_an_answer_has_a_bound(lent: tuple[Town, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    town, _ = lent
    monkeypatch.setattr(queries, "ANSWER_BYTES_MAX", 100)
    assert "ask for less" in asked(town, Town.A, Query("view"))["error"]


def test_a_restored_ledger_gives_the_same_bytes(lent: tuple[Town, bytes]) -> None:
    town, financing = lent
    town.verified({town.declare("firm.2"): 7_000}, firm="firm.2")
    look = town.must(AuditRead("view"), "administrator").transaction
    restored = town.ledger.restored(town.ledger.snapshot())
    for who, query in (
        ("administrator", Query("view", look)),
        (Town.A, Query("view")),
        ("firm.1", Query("financing", financing)),
        ("administrator", Query("audit", look)),
        ("customs", Query("head")),
    ):
        told = answer(town.ledger, who, query.operation())
        assert "error" not in json.loads(told)
        assert told == answer(restored, who, query.operation())


def test_a_query_in_a_batch_changes_nothing_and_sees_the_batch(town: Town) -> None:
    """Its place is among the transactions; the ledger never sees it."""
    payload = Query("head", firm="customs")
    town.declare()
    anchor = town.batches[-1][2][0]
    app = LedgerApplication(type(town.ledger)(town.genesis, town.keyring), epoch_ns=town.START_NS)
    requests = (
        Request(Town.A, 1, payload.operation()),
        Request("customs", 1, anchor),
        Request("x", 1, b"junk"),
    )
    batch = Batch(5, requests)
    decided = Decided(1, batch, QuorumCertificate("Commit", 0, 1, batch.digest, ()))
    executed = app.execute(decided, requests)
    told, receipt, junk = executed.results
    assert json.loads(told)["next_sequence"] == 2
    assert receipt == app.ledger.audit[0].receipt.encode()
    assert junk == app.ledger.audit[1].receipt.encode()
    assert len(app.ledger.audit) == 2
    assert [is_query(request.operation) for request in requests] == [True, False, False]
    alone = LedgerApplication(type(town.ledger)(town.genesis, town.keyring), epoch_ns=town.START_NS)
    alone.execute(decided, requests[1:])
    assert alone.ledger.state_root == app.ledger.state_root
