"""What one endpoint of a real network did, as data: counted on the way, asked for at the end, also across processes."""

from __future__ import annotations

import resource

import msgspec
from tradebft.consensus.interface import Committed, Executed
from tradebft.consensus.membership import epoch_of, first_view
from tradebft.consensus.messages import Message, NewView, PrePrepare
from tradebft.network.live.clock import Clock
from tradebft.network.live.member import Member


class Commit(msgspec.Struct, frozen=True, array_like=True):
    """A batch that a member executed, *at_ns* of its clock; *root* is that of its state afterwards."""

    seq: int
    view: int
    transactions: int
    length: int  # of its batch, bytes
    digest: bytes
    root: bytes
    at_ns: int


class Seen(msgspec.Struct, frozen=True):
    """What a member did since its start. *cpu_seconds* is what its process used since then."""

    member: int
    sent: dict[str, int]
    sent_bytes: int
    proposed: list[tuple[int, int, int]]  # seq, view, when (ns): PrePrepares that it made
    commits: list[Commit]
    views: int  # new views that it opened
    ignored: dict[str, int]
    dropped: dict[str, int]
    evidence: list[tuple[int | str, str]]  # culprit, what
    height: int
    root: bytes
    cpu_seconds: float


class Observer:
    """Watches a member. Hand `committed` to it as *observe*, then `attach`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._member: Member | None = None
        self._proposed: list[tuple[int, int, int]] = []
        self.commits: list[Commit] = []
        self._views = 0
        self._cpu_before = cpu_seconds()

    def attach(self, member: Member) -> None:
        """From now on."""
        self._member = member
        member.port.watch = self._sent

    def committed(self, effect: Committed, executed: Executed) -> None:
        """The member executed a batch."""
        batch, view = effect.decided.batch, effect.decided.certificate.view
        self.commits.append(
            Commit(
                effect.seq,
                view - first_view(epoch_of(view)),
                len(batch.requests),
                len(batch.encoded),
                batch.digest,
                executed.root,
                self._clock.now(),
            )
        )

    def seen(self) -> Seen:
        """All of it."""
        member = self._member
        assert member is not None
        drops = {**member.counts, **member.port.bus.counts}
        return Seen(
            member=int(member.replica.me),
            sent=dict(member.port.sent),
            sent_bytes=member.port.sent_bytes,
            proposed=self._proposed,
            commits=self.commits,
            views=self._views,
            ignored=dict(member.ignored),
            dropped={why: n for why, n in drops.items() if _is_drop(why)},
            evidence=[(one.culprit, one.what) for one in member.evidence],
            height=member.height,
            root=member.root,
            cpu_seconds=cpu_seconds() - self._cpu_before,
        )

    def _sent(self, message: Message) -> None:
        if isinstance(message, PrePrepare):
            self._proposed.append((message.seq, message.view, self._clock.now()))
        elif isinstance(message, NewView):
            self._views += 1


def cpu_seconds() -> float:
    """Processor time of this process so far, in user and in system mode."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _is_drop(why: str) -> bool:
    """Whether a count of a member or its bus is of something that came to nothing."""
    return why in ("malformed", "inbox full", "bad signature", "lost") or why.startswith(
        ("dropped", "refused")
    )
