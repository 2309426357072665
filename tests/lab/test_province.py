"""The ledger's script for trials: it repeats exactly, reaches what it is for, and notices a ledger that is wrong."""

from msgspec.structs import replace
from tradebft.consensus.messages import Batch, Decided, Request
from tradebft.lab.fuzz.case import MemberChange
from tradebft.lab.fuzz.dice import Dice
from tradebft.lab.fuzz.draw import draw
from tradebft.lab.fuzz.planting import plant
from tradebft.lab.fuzz.province import Province
from tradebft.lab.fuzz.trial import cluster_of, try_case
from tradebft.network.chance import Chance

LENGTH = 300


def province(seed=1):
    return Province(seed, Dice(Chance(seed).stream("fuzz", "province")))


def played(seed=1, length=LENGTH):
    """The ledger after so many transactions of the script, each a block, in order."""
    town = province(seed)
    ledger = town.application()
    for number in range(length):
        request = Request("client.0", number + 1, town.transaction(number))
        decided = Decided(number + 1, Batch(number, (request,)), None)
        ledger.execute(decided, (request,))
    return ledger


def test_a_script_is_the_same_again_in_whatever_order_it_is_asked_for():
    one, other = province(), province()
    forwards = [one.transaction(number) for number in range(60)]
    assert [other.transaction(number) for number in reversed(range(60))] == forwards[::-1]
    assert [province(2).transaction(number) for number in range(60)] != forwards


def test_it_reaches_the_end_of_loans_and_the_limits_of_declarations():
    ledger = played()
    codes = [record.receipt.code for record in ledger.ledger.audit]
    assert codes.count("OK") > LENGTH // 6
    assert {"E_HEADROOM", "E_STATE", "E_ROLE"} <= set(codes)
    assert {f.state for f in ledger.ledger.state.financings.rows.values()} >= {"CLOSED", "VERIFIED"}
    assert len(codes) < LENGTH  # what came twice was executed once
    assert len(ledger.answers) == LENGTH
    assert ledger.audit() == []


def test_a_ledger_that_is_wrong_is_noticed():
    with plant("headroom-not-checked"):
        assert any(line.startswith("I1 ") for line in played().audit())


def test_each_member_executes_for_itself():
    """One whose ledger goes another way is seen, as its root differs."""
    case = next(c for c in map(draw, range(100)) if c.application == "ledger")
    case = replace(case, faults=(), adversaries=(), dishonest={})
    town, made = province(), []

    def make():
        made.append(town.application())
        return made[-1]

    cluster = cluster_of(case, make)
    assert len(made) == case.everybody + 1  # and the one that all blocks are kept of
    made[2]._time_ns += 10**15
    cluster.clients["client.0"].submit(0, town.transaction(0), "", lambda record: None)
    cluster.run(2 * 10**9)
    assert {(v.invariant, v.replica) for v in cluster.checker.violations} == {("state-roots", 1)}


def test_changes_of_members_reach_later_epochs():
    case = next(c for c in map(draw, range(100)) if len(c.changes) > 1)
    assert all(isinstance(change, MemberChange) for change in case.changes)
    outcome = try_case(case)
    assert outcome.first is None
    assert outcome.coverage["epochs"] >= 1
    assert outcome.injected["change of members"] == len(case.changes)
