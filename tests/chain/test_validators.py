"""A change of validators on the ledger is a change of the replicas, where the two are meant to be one."""

from __future__ import annotations

from tradebft.chain.crypto import QuorumCertificate
from tradebft.chain.ledger import Ledger
from tradebft.chain.rules.payloads import KeyRotate, MemberAdmit, MemberRetire
from tradebft.chain.transaction import possession_payload
from tradebft.consensus.messages import Batch, Decided, Request
from tradebft.network.application import LedgerApplication

REPLICAS = ("administrator", "policy_bank", "commercial_bank.1", "commercial_bank.2")
BANKS = REPLICAS[1:]


def key_of(replica, generation):
    return b"" if generation == 0 else b"key %d of %d" % (generation, replica)


def execute(application, *transactions):
    seq = application.ledger.height + 1
    requests = tuple(Request("bank", seq * 10 + k, t.encode()) for k, t in enumerate(transactions))
    batch = Batch(seq * 10**9, requests)
    proof = QuorumCertificate("Commit", 0, seq, batch.digest, ())
    return application.execute(Decided(seq, batch, proof), requests)


def test_admitting_rotating_and_retiring_a_validator_says_who_the_replicas_shall_be(new_town):
    town = new_town(epoch_blocks=10)
    application = LedgerApplication(Ledger(town.genesis, town.keyring), None, town.START_NS, REPLICAS, key_of)
    key = town.keyring.public_key("newcomer")
    joining = MemberAdmit("commercial_bank.3", "BANK", key, validator=True)

    refused = execute(application, town.transaction(joining, "administrator", BANKS[1]))
    assert refused.members is None, "without a quorum nothing changes"
    admitted = execute(application, town.transaction(joining, "administrator", *BANKS[1:]))
    assert admitted.members == ((0, b""), (1, b""), (2, b""), (3, b""), (4, b""))

    retiring = MemberRetire(BANKS[2])
    retired = execute(application, town.transaction(retiring, "administrator", *BANKS))
    assert retired.members == ((0, b""), (1, b""), (2, b""), (4, b""))

    successor = town.keyring.issue(BANKS[1], 1)
    proof = successor.sign(possession_payload(town.CHAIN, BANKS[1], successor.public_key))
    rotating = KeyRotate(BANKS[1], successor.public_key, proof)
    rotated = execute(application, town.transaction(rotating, "administrator"))
    assert rotated.members == ((0, b""), (1, b""), (2, b"key 1 of 2"), (4, b""))


def test_who_is_which_replica_survives_a_snapshot(new_town):
    town = new_town(epoch_blocks=10)
    application = LedgerApplication(Ledger(town.genesis, town.keyring), None, town.START_NS, REPLICAS, key_of)
    joining = MemberAdmit("alpha_bank", "BANK", town.keyring.public_key("newcomer"), validator=True)
    last = execute(application, town.transaction(joining, "administrator", *BANKS[1:]))
    assert last.members is not None
    restored = LedgerApplication(Ledger(town.genesis, town.keyring), None, town.START_NS, REPLICAS, key_of)
    assert restored.restore(b"".join(application.snapshot())) == last.root
    retiring = town.transaction(MemberRetire(BANKS[2]), "administrator", *BANKS)
    assert execute(restored, retiring) == execute(application, retiring)


def test_without_validators_the_ledger_and_the_replicas_are_two_matters(new_town):
    town = new_town(epoch_blocks=10)
    application = LedgerApplication(Ledger(town.genesis, town.keyring), None, town.START_NS)
    joining = MemberAdmit("alpha_bank", "BANK", town.keyring.public_key("newcomer"), validator=True)
    assert execute(application, town.transaction(joining, "administrator", *BANKS[1:])).members is None
