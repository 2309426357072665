"""Messages that came before their time: for a view that this replica has not entered yet.

Dropping them would cost a retransmission at every view change; keeping all of them would let one sender fill the
memory. Each sender gets a quota, in messages and in bytes; its oldest message goes first.
"""

from __future__ import annotations

from collections import deque

from tradebft.consensus.messages import Commit, Prepare, PrePrepare, Request


class EarlyMessages:
    """At most *quota* messages and *quota_bytes* a sender, for views above the current one."""

    def __init__(self, quota: int, quota_bytes: int) -> None:
        self._quota, self._quota_bytes = quota, quota_bytes
        self._held: dict[int, deque[PrePrepare | Prepare | Commit]] = {}
        self._bytes: dict[int, int] = {}

    def hold(self, message: PrePrepare | Prepare | Commit) -> None:
        """Keep *message* for later."""
        sender = message.replica
        held = self._held.setdefault(sender, deque())
        held.append(message)
        total = self._bytes.get(sender, 0) + _bytes(message)
        while len(held) > self._quota or total > self._quota_bytes:
            total -= _bytes(held.popleft())
        self._bytes[sender] = total

    def release(self, view: int) -> list[PrePrepare | Prepare | Commit]:
        """What was held for *view*, in order of arrival a sender; anything older is dropped."""
        due: list[PrePrepare | Prepare | Commit] = []
        for sender in sorted(self._held):
            held = self._held[sender]
            due += [message for message in held if message.view == view]
            self._held[sender] = deque(m for m in held if m.view > view)
            self._bytes[sender] = sum(_bytes(message) for message in self._held[sender])
        return due

    def most(self) -> int:
        """Messages held for the sender that has most here."""
        return max(map(len, self._held.values()), default=0)


def _bytes(message: PrePrepare | Prepare | Commit) -> int:
    # Nobody has looked into the batch yet: names and signatures in it may be of any length, and have no encoding.
    batch = message.batch if isinstance(message, PrePrepare) else None
    requests = () if batch is None else batch.requests
    return len(message.digest) + len(message.signature) + sum(map(_bytes_of_request, requests))


def _bytes_of_request(request: Request) -> int:
    return 64 + 4 * len(request.client) + len(request.operation) + len(request.signature)
