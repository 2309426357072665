"""A ledger restored from a snapshot is the ledger: the same root, and the same answer to whatever comes next."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tradebft.chain.ledger import Ledger
from tradebft.chain.rules.invariants import check
from tradebft.chain.rules.payloads import ReserveExpire


def _stories():
    """The module beside this one that turns numbers into transactions."""
    name = "ledger_stories"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, Path(__file__).with_name("test_ledger_properties.py")
        )
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


STORIES = _stories()


class Teller:
    """A town whose transactions run out soon, and everything it was sent so far, to be sent again."""

    def __init__(self, make_town, recycle, strict):
        self.town = make_town(recycle=recycle, invoice_strict=strict, **STORIES.SETTINGS)
        self.story = STORIES.Story(self.town)
        self.sent = []
        plain = self.town.transaction

        def soon(payload, by, *cosigners, **more):
            lifetime = 1 + len(self.sent) % 5  # so that retries come before, at and after the end of it
            more.setdefault("expiry_height", self.town.ledger.height + lifetime)
            return plain(payload, by, *cosigners, **more)

        self.town.transaction = soon

    def batch(self, numbers, again):
        """New transactions by *numbers*, by *again* retries and old numbers, and garbage."""
        for deed in numbers:
            self.sent.append(self.story.transaction(*deed).encode())
        fresh = self.sent[len(self.sent) - len(numbers) :]
        retries = [self.sent[-1 - back % len(self.sent)] for back in again] if self.sent else []
        late = [self.town.transaction(ReserveExpire(bytes(32)), "firm.1", sequence=1 + n) for n in again]
        return [*fresh, *retries, *(tx.encode() for tx in late), b"no transaction"]


def level(one, other):
    """Everything about a ledger that anybody can ask for."""
    assert one.state_root == other.state_root
    assert one.objects_root == other.objects_root
    assert (one.height, one.time_ns, one.audit, one.audit_head) == (
        other.height,
        other.time_ns,
        other.audit,
        other.audit_head,
    )
    assert one.snapshot() == other.snapshot()
    assert one.validators() == other.validators()
    for record in one.audit:
        place = record.receipt.sender, record.receipt.sequence
        assert one.receipt(*place) == other.receipt(*place)


blocks = st.lists(
    st.tuples(
        st.lists(STORIES.deeds, min_size=0, max_size=4),
        st.lists(st.integers(0, 40), max_size=3),
        st.integers(0, 3),  # hours
    ),
    min_size=1,
    max_size=16,
)


@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(story=blocks, recycle=st.integers(0, 1), strict=st.integers(0, 1), data=st.data())
def test_restored_at_any_points_a_ledger_has_the_same_future(make_town, story, recycle, strict, data):
    """Copies are made in the middle of the story, copies of copies too; from then on all are told the same."""
    teller = Teller(make_town, recycle, strict)
    town, copies = teller.town, []
    points = data.draw(st.sets(st.integers(0, len(story)), max_size=3))
    for at, (numbers, again, hours) in enumerate(story):
        if at in points:
            source = copies[-1] if copies else town.ledger
            copies.append(source.restored(source.snapshot()))
            level(copies[-1], town.ledger)
        town.time_ns += (1 + 3600 * hours) * 10**9
        batch = teller.batch(numbers, again)
        height = town.ledger.height + 1
        applied = town.ledger.apply(height, town.time_ns, batch)
        for copy in copies:
            assert copy.apply(height, town.time_ns, batch) == applied
    for copy in copies:
        level(copy, town.ledger)
        assert check(copy) == []
        assert copy.state.root_from_scratch() == copy.objects_root


@pytest.mark.parametrize("lifetime", [1, 2, 3])
def test_a_retry_is_answered_as_the_original_would_at_every_age(make_town, lifetime):
    """Before, at and after the block up to which the transaction could have been executed."""
    town = make_town()
    goods = town.declare()
    tx = town.transaction(
        town.application({goods: 5}), "firm.1", expiry_height=town.ledger.height + lifetime
    ).encode()
    earlier = town.transaction(town.application({goods: 7}), "firm.1", sequence=0).encode()
    town.ledger.apply(town.ledger.height + 1, town.time_ns, [tx])
    codes = []
    for _ in range(6):
        copy = town.ledger.restored(town.ledger.snapshot())
        here = town.ledger.apply(town.ledger.height + 1, town.time_ns, [tx, earlier])
        assert copy.apply(copy.height + 1, town.time_ns, [tx, earlier]) == here
        level(copy, town.ledger)
        codes.append((here.receipts[0].code, here.receipts[0].repeated))
    assert codes == [("OK", True)] * (lifetime - 1) + [("E_EXPIRED_TX", False)] * (7 - lifetime)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_snapshot_that_was_damaged_anywhere_never_gives_another_ledger(make_town, data):
    """One byte changed, cut off or added: no ledger comes of it, or the very same one."""
    town, snapshot, root = _sample(make_town)
    at = data.draw(st.integers(0, len(snapshot) - 1))
    how = data.draw(st.sampled_from(["change", "cut", "add"]))
    damaged = {
        "change": snapshot[:at] + bytes([snapshot[at] ^ data.draw(st.integers(1, 255))]) + snapshot[at + 1 :],
        "cut": snapshot[:at],
        "add": snapshot + bytes([at % 256]),
    }[how]
    try:
        copy = Ledger.restore(town.genesis, town.keyring, damaged, root)
    except ValueError:
        return
    assert copy.snapshot() == snapshot  # only the name of a table without rows can be lost without any loss


_SAMPLES = []


def _sample(make_town):
    if not _SAMPLES:
        town = make_town()
        goods = town.declare()
        town.lent({goods: 500})
        _SAMPLES.append((town, town.ledger.snapshot(), town.ledger.state_root))
    return _SAMPLES[0]
