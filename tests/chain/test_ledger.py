"""The ledger's own promises: all or nothing, exactly once, the same roots from the same start."""

import pytest
from msgspec.structs import replace
from tradebft.chain import codec
from tradebft.chain.ledger import Ledger
from tradebft.chain.receipt import Receipt
from tradebft.chain.rules.context import CODES
from tradebft.chain.rules.invariants import NAMES
from tradebft.chain.rules.payloads import PAYLOADS, AuditRead, FinApply, FinReserve, Payload, Repay
from tradebft.chain.rules.table import RULES
from tradebft.chain.transaction import (
    Body,
    Transaction,
    decode,
    payload_hash,
    signing_payload,
    transaction_id,
)
from tradebft.chain.tree import verify_map_proof

A, B = "commercial_bank.1", "commercial_bank.2"


def test_the_tables_are_complete():
    assert set(RULES) == set(PAYLOADS)
    assert {rule.number for rule in RULES.values()} == {*range(1, 23), 24, 25, 26}
    assert len(CODES) == 25
    assert list(NAMES) == [f"I{i}" for i in range(1, 16)]


def test_a_refusal_leaves_a_record_and_nothing_else(town):
    first, second = town.declare(value=100_000), town.declare(value=1_000)
    application = town.verified({first: 50_000, second: 50_000})
    objects, root, records = town.ledger.objects_root, town.ledger.state_root, len(town.ledger.audit)
    tables = [dict(t.rows) for t in town.ledger.state.tables]
    assert (
        town.do(FinReserve(application), A).code == "E_HEADROOM"
    )  # the first declaration was already written
    assert town.ledger.objects_root == objects
    assert [dict(t.rows) for t in town.ledger.state.tables] == tables
    assert len(town.ledger.audit) == records + 1
    assert town.ledger.state_root != root  # the record is part of what replicas agree on


def test_every_type_refuses_nonsense_without_a_trace(town):
    """Empty strings, zeros, foreign ids: whatever the rule stumbles over first, it is a code and no
    exception.
    """
    fill = {"str": "x", "int": 0, "bytes": b"x", "bool": False}
    objects = town.ledger.objects_root
    for name, kind in PAYLOADS.items():
        values = [fill.get(str(t), ()) for t in kind.__annotations__.values()]
        if name == "AUDIT_READ":
            continue
        for sender in town.signers:
            if "/" not in sender:
                receipt = town.do(kind(*values), sender)
                assert receipt.code in CODES, (name, receipt)
    assert town.ledger.objects_root == objects


def test_garbage_is_answered_and_counted_against_nobody(town):
    good = town.transaction(AuditRead("x"), "administrator").encode()
    codes = [r.code for r in town.block(b"", b"\xc1", good[:-1], good + b"\x00", b"x" * 70_000, good)]
    assert codes == ["E_PARAM", "E_PARAM", "E_PARAM", "E_PARAM", "E_SIZE", "OK"]


def test_a_payload_that_does_not_parse_is_refused_after_its_signature_holds(town):
    for payload in (b"\xc1", codec.encode(["FIN_APPLY", 1]), codec.encode(["REPAY", b"", 1, "", "", 0])):
        body = Body(town.CHAIN, 1, "FIN_APPLY", "firm.1", 900 + len(payload), 99, 0, payload_hash(payload))
        signature = town.signers["firm.1"].sign(signing_payload(transaction_id(body)))
        (receipt,) = town.block(Transaction(body, payload, (("firm.1", signature),)))
        assert (receipt.code, receipt.fields) == ("E_PARAM", ("payload",))


def test_an_envelope_that_was_tampered_with_is_refused(town):
    genuine = town.transaction(town.application({town.declare(): 1_000}), "firm.1")
    other = codec.encode(town.application({town.declare(): 9_000}))
    dearer = replace(genuine, payload=other)
    later = replace(genuine, body=replace(genuine.body, sequence=99))
    unsigned = replace(genuine, signatures=())
    swapped = replace(genuine, signatures=(("firm.2", genuine.signatures[0][1]),))
    twice = replace(genuine, signatures=genuine.signatures * 2)
    receipts = town.block(dearer, later, unsigned, swapped, twice)
    assert [r.code for r in receipts] == ["E_SIG"] * 5
    assert town.block(genuine)[0].ok  # and none of it has used the sender's number up


def test_amounts_beyond_what_fits(town):
    goods = town.declare()
    for amount in (1 << 63, (1 << 64) - 1):
        assert town.do(town.application({goods: amount}), "firm.1").code == "E_AMOUNT"
    with pytest.raises(codec.CodecError):
        town.transaction(town.application({goods: 1 << 64}), "firm.1")
    assert town.declaration(town.declare(value=(1 << 63) - 1)).cap == ((1 << 63) - 1) * 9 // 10


# ---- exactly once ------------------------------------------------------------------------------------------


def test_numbers_may_arrive_in_any_order_but_each_serves_once(town):
    goods = town.declare()
    ahead = town.transaction(town.application({goods: 1}), "firm.1", sequence=7)
    behind = town.transaction(town.application({goods: 2}), "firm.1", sequence=3)
    again = town.transaction(town.application({goods: 3}), "firm.1", sequence=7)
    assert [r.code for r in town.block(ahead, behind, again)] == ["OK", "OK", "E_REPLAY"]
    for sequence in (0, -1):
        assert town.do(town.application({goods: 1}), "firm.1", sequence=sequence).code == "E_REPLAY"


def test_what_can_no_longer_be_executed_is_no_longer_remembered(town):
    goods = town.declare()
    height = town.ledger.height
    short = town.transaction(town.application({goods: 1}), "firm.1", sequence=5, expiry_height=height + 2)
    (first,) = town.block(short)
    assert town.ledger.receipt("firm.1", 5) == first
    assert town.block(short)[0] == replace(first, repeated=True)
    assert town.block(short)[0].code == "E_EXPIRED_TX"
    assert town.ledger.receipt("firm.1", 5) is None
    reused = town.transaction(town.application({goods: 2}), "firm.1", sequence=5)
    assert town.block(reused)[0].code == "E_REPLAY"
    assert town.do(town.application({goods: 2}), "firm.1", sequence=6).ok


# ---- roots, snapshots, proofs ------------------------------------------------------------------------------


def test_batches_are_applied_in_order(town):
    with pytest.raises(ValueError, match="height 7 after 0"):
        town.ledger.apply(7, town.time_ns, [])


def test_a_transaction_that_never_was_bytes_does_what_its_bytes_do(town):
    goods, database = town.declare(), Ledger(town.genesis, town.keyring)
    apply = town.transaction(town.application({goods: 1_000}), "firm.1")
    forged = replace(apply, body=replace(apply.body, sequence=99))
    too_much = town.transaction(town.application({goods: 1 << 63}), "firm.1")
    answers = []
    for tx in (apply, forged, apply, too_much):
        town.block(tx)
    for height, time_ns, (data,) in town.batches:
        answers.append(database.apply_one(height, time_ns, decode(data)))
    assert [receipt.code for receipt in answers] == ["OK", "OK", "E_SIG", "OK", "E_AMOUNT"]
    assert [receipt.repeated for receipt in answers] == [False, False, False, True, False]
    assert database.snapshot() == town.ledger.snapshot()
    with pytest.raises(ValueError, match="height 9 after 5"):
        database.apply_one(9, town.time_ns, apply)


def test_a_restored_ledger_is_the_same_ledger_and_goes_on_the_same_way(town):
    goods = town.declare()
    loan = town.lent({goods: 50_000})
    town.do(Repay(loan, 60_000, "BUYER_RECEIPT", "r"), A)
    data = town.ledger.snapshot()
    copy = Ledger.restore(town.genesis, town.keyring, data, town.ledger.state_root)
    assert copy.snapshot() == data
    assert copy.objects_root == copy.state.root_from_scratch()
    assert copy.validators() == town.ledger.validators()
    known = town.batches[-1][2][0]  # a retry is known to the copy too
    fresh = town.transaction(Repay(loan, 50_000, "BUYER_RECEIPT", "r2"), A).encode()
    height, time_ns = town.ledger.height + 1, town.time_ns + 1
    here = town.ledger.apply(height, time_ns, [known, fresh])
    there = copy.apply(height, time_ns, [known, fresh])
    assert [r.code for r in here.receipts] == ["E_OUTSTANDING", "OK"]
    assert here == there
    town.batches.append((height, time_ns, [known, fresh]))


def test_a_restored_ledger_forgets_what_the_original_has_forgotten(town):
    goods = town.declare()
    town.must(town.application({goods: 1}), "firm.1", sequence=5, expiry_height=town.ledger.height + 1)
    town.block()
    copy = Ledger.restore(town.genesis, town.keyring, town.ledger.snapshot())
    late = town.transaction(town.application({goods: 2}), "firm.1", sequence=5)
    assert town.block(late) == copy.apply(copy.height + 1, town.time_ns, [late.encode()]).receipts
    assert copy.state_root == town.ledger.state_root


def test_a_snapshot_that_was_altered_is_refused(town):
    town.declare(value=123_456)
    root, data = town.ledger.state_root, town.ledger.snapshot()
    altered = data.replace(codec.encode(123_456), codec.encode(123_457))
    assert altered != data
    with pytest.raises(ValueError, match="root"):
        Ledger.restore(town.genesis, town.keyring, altered, root)
    with pytest.raises(codec.CodecError):
        Ledger.restore(town.genesis, town.keyring, data[:-1])
    with pytest.raises(ValueError, match="chain"):
        Ledger.restore(replace(town.genesis, chain_id=b"other"), town.keyring, data)


def test_an_auditor_can_be_shown_one_object_under_the_root(town):
    goods = town.declare()
    key, value, proof = town.ledger.prove("declaration", goods)
    assert verify_map_proof(town.ledger.objects_root, key, value, proof)
    key, value, proof = town.ledger.prove("declaration", bytes(32))
    assert value is None
    assert verify_map_proof(town.ledger.objects_root, key, None, proof)


def test_a_receipt_is_its_bytes(town):
    receipt = town.do(AuditRead("everything"), "auditor")
    assert codec.decode(receipt.encode(), Receipt) == receipt


def test_two_firms_with_one_uscc_are_no_genesis(town):
    twin = replace(town.genesis.firms[0], id="firm.77")
    with pytest.raises(ValueError, match=r"firm\.77"):
        Ledger(replace(town.genesis, firms=(*town.genesis.firms, twin)), town.keyring)


def test_every_payload_says_what_it_is():
    assert issubclass(FinApply, Payload)
    assert all(kind.__doc__ and kind.__doc__[0].isdigit() for kind in PAYLOADS.values())
