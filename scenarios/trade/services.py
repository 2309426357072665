"""Two ledgers to wait for: one central database, or the chain in its simulated network. Same rules, same receipts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol, TypeAlias

import simpy
from simpy.events import Event
from tradebft.chain.codec import decode
from tradebft.chain.ledger import Ledger
from tradebft.chain.receipt import Receipt
from tradebft.chain.transaction import Transaction
from tradebft.network.cluster import Cluster
from tradebft.network.node import RequestRecord

DATABASE_CALL_NS: Final = 5_000_000
"""One call to the central database, network included: 5 ms (assumption; a call within a province is of that order)."""


Posted: TypeAlias = Callable[[Any], Any]
"""What is called once with whatever stands for the receipt."""


class LedgerService(Protocol):
    """Takes transactions."""

    def submit(self, gateway: str, transaction: Transaction) -> Event:
        """Hand in *transaction* at the counter of *gateway*; the event succeeds with its receipt."""
        ...

    def post(self, gateway: str, transaction: Transaction, executed: Posted | None = None) -> None:
        """The same where nobody waits for the receipt; *executed* is called when it is there."""
        ...


class DatabaseLedger:
    """The same ledger rules behind one server: each transaction is a block of its own, and takes one call."""

    def __init__(self, env: simpy.Environment, ledger: Ledger, epoch_ns: int) -> None:
        self._env, self.ledger, self._epoch_ns = env, ledger, epoch_ns
        self.codes: dict[str, int] = {}

    def submit(self, gateway: str, transaction: Transaction) -> Event:
        """Execute at once, answer after the call's time."""
        return self._env.timeout(DATABASE_CALL_NS, self._executed(transaction))

    def post(self, gateway: str, transaction: Transaction, executed: Posted | None = None) -> None:
        """Execute at once."""
        receipt = self._executed(transaction)
        if executed is not None:
            executed(receipt)

    def _executed(self, transaction: Transaction) -> Receipt:
        ledger = self.ledger
        time_ns = self._epoch_ns + int(self._env.now)
        receipt = ledger.apply_one(ledger.height + 1, time_ns, transaction)
        self.codes[receipt.code] = self.codes.get(receipt.code, 0) + 1
        return receipt


class ChainLedger:
    """The simulated network: a transaction is a request, its receipt what f+1 replicas answer alike."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def submit(self, gateway: str, transaction: Transaction) -> Event:
        """Send the request; the event succeeds when f+1 matching replies have arrived."""
        event = self._cluster.env.event()
        self._send(gateway, transaction, lambda record: event.succeed(decode(record.result, Receipt)))
        return event

    def post(self, gateway: str, transaction: Transaction, executed: Posted | None = None) -> None:
        """Send the request; its answer is on record like any other."""
        self._send(gateway, transaction, executed or _noted)

    def _send(self, gateway: str, transaction: Transaction, answered: Callable[[RequestRecord], Any]) -> None:
        now, kind = self._cluster.env.time, transaction.body.type
        self._cluster.clients[gateway].submit(now, transaction.encode(), kind, answered)


def _noted(record: RequestRecord) -> None:
    """Nobody waits for the answer."""


def receipt_of(value: Any) -> Receipt:
    """The receipt that a submitted transaction's event carries."""
    assert isinstance(value, Receipt)
    return value
