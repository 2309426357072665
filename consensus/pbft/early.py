"""Messages that came before their time: for a view that this replica has not entered yet.

Dropping them would cost a retransmission at every view change; keeping all of them would let one sender fill the
memory. Each sender gets a quota; its oldest message goes first.
"""

from __future__ import annotations

from collections import deque

from tradebft.consensus.messages import Commit, Prepare, PrePrepare


class EarlyMessages:
    """At most *quota* messages a sender, for views above the current one."""

    def __init__(self, quota: int) -> None:
        self._quota = quota
        self._held: dict[int, deque[PrePrepare | Prepare | Commit]] = {}

    def hold(self, message: PrePrepare | Prepare | Commit) -> None:
        """Keep *message* for later."""
        self._held.setdefault(message.replica, deque(maxlen=self._quota)).append(message)

    def release(self, view: int) -> list[PrePrepare | Prepare | Commit]:
        """What was held for *view*, in order of arrival a sender; anything older is dropped."""
        due: list[PrePrepare | Prepare | Commit] = []
        for sender in sorted(self._held):
            held = self._held[sender]
            due += [message for message in held if message.view == view]
            self._held[sender] = deque((m for m in held if m.view > view), maxlen=self._quota)
        return due
