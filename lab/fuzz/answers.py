"""What honest clients were told, compared with what was executed (a client's view of exactly-once and of agreement)."""

from __future__ import annotations

from collections.abc import Iterator

from tradebft.chain.crypto import digest
from tradebft.consensus.interface import Executed
from tradebft.consensus.messages import Decided, Request, result_digest
from tradebft.network.application import HashChain
from tradebft.network.node import RequestRecord


class Answers:
    """What an application answered: (client, sequence of the request) -> (sequence of the batch, result), each time."""

    answers: dict[tuple[str, int], list[tuple[int, bytes]]]

    def note(self, executed: Executed, fresh: tuple[Request, ...]) -> None:
        """Remember what came of the requests of a batch."""
        for request, result in zip(fresh, executed.results, strict=True):
            self.answers.setdefault(request.key, []).append((executed.seq, result))

    def audit(self) -> list[str]:
        """What is wrong with the state itself, in words."""
        return []


class Diary(HashChain, Answers):
    """A hash chain whose results depend on everything executed before them, and which remembers what it answered.

    *state_bytes*: how long its snapshots are, so that they may have several chunks.
    """

    def __init__(self, state_bytes: int = 0) -> None:
        super().__init__()
        self._state_bytes = state_bytes
        self.answers = {}

    def execute(self, decided: Decided, fresh: tuple[Request, ...]) -> Executed:
        """Chain the batch; each result is a digest of the history, the request's place in it, and its operation."""
        chained = super().execute(decided, fresh)
        results = tuple(
            digest("diary", chained.root, place.to_bytes(4, "big"), request.operation)[:8]
            for place, request in enumerate(fresh)
        )
        digests = tuple(result_digest(result) for result in results)
        executed = Executed(decided.seq, results, digests, chained.root, members=chained.members)
        self.note(executed, fresh)
        return executed

    def snapshot(self) -> tuple[bytes, ...]:
        """The root, over and over up to the length of the state."""
        (root,) = super().snapshot()
        return (root * max(1, self._state_bytes // len(root)),)

    def restore(self, data: bytes) -> bytes:
        """Go on from there; ValueError where it is not one root throughout."""
        root = data[:32]
        if data != root * max(1, self._state_bytes // 32):
            raise ValueError(f"{len(data)} bytes that are no diary's state")
        return super().restore(root)


def wrong_answers(client: str, records: list[RequestRecord], diary: Answers) -> Iterator[str]:
    """Answers that a client believed and that are not what was executed for it, once; in words."""
    seen: set[int] = set()
    for record in records:
        if record.replied_ns < 0:
            continue
        if record.sequence in seen:
            yield f"{client} was answered twice for its request {record.sequence}"
        seen.add(record.sequence)
        executed = diary.answers.get((client, record.sequence), [])
        if executed != [(record.seq, record.result)]:
            told = f"{record.result.hex()} at {record.seq}"
            was = ", ".join(f"{result.hex()} at {seq}" for seq, result in executed) or "nothing"
            yield f"{client}'s request {record.sequence} was answered {told}; executed was {was}"
