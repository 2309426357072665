"""What waves leave: the trace digest, counts, and when each decision was made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from tradebft.consensus.interface import Config
from tradebft.network.bookkeeping import Sizes, Told
from tradebft.network.engines import Uncovered
from tradebft.network.recorder import COMMIT_EVENT, EXECUTE_EVENT, Decision, Recorder
from tradebft.network.wavefront import bulk
from tradebft.network.wavefront.order import NEVER, Agreement, Members, Times, Wave
from tradebft.network.wavefront.tally import CHECKPOINT, COMMIT, PRE_PREPARE, PREPARE, REPLY, Tally

ROWS_TOGETHER: Final = 1 << 16  # cells of rows that are mixed at once
SETTLED_EVERY: Final = 16  # decisions
OLD_VOTE: Final = "vote at or below the low watermark"
OLD_CHECKPOINT: Final = "checkpoint at or below the low watermark"


@dataclass(slots=True, eq=False)
class Entry:
    """A decision and all that was said about it."""

    seq: int
    digest: int
    size: int  # bytes of the batch
    wave: Wave
    told: Told
    receivers: list[int]  # endpoints of the clients, a request each
    replies: Times  # (requests, n): when they arrive
    checkpoint: Agreement | None = None
    over: int = field(init=False)  # when the last of it has arrived
    covered: Times | None = None  # (n,): when a checkpoint that covers it was stable, if that was before

    def __post_init__(self) -> None:
        self.over = max(_last(self.wave.votes), _last(self.replies))

    def spoken(self, members: Members) -> list[tuple[int, int, int, Times, Times]]:
        """What was said to all: kind, the first sender, digest, when each says it, and when it arrives."""
        wave = self.wave
        said = [
            (PRE_PREPARE, 0, self.digest, np.array([wave.proposed]), wave.first[:1]),
            (PREPARE, 1, self.digest, members.said(wave.accepted)[1:], wave.first[1:]),
            (COMMIT, 0, self.digest, members.said(wave.prepared), wave.commits),
        ]
        if self.checkpoint is not None:
            said.append((CHECKPOINT, 0, self.told.state, members.said(wave.executed), self.checkpoint.votes))
        return said

    def done(self) -> list[tuple[int, int, int, Times]]:
        """What every replica does once: kind, digest, receiver, and when; a reply when it arrives."""
        executed = self.wave.executed
        return [
            (COMMIT_EVENT, self.digest, 0, executed),
            (EXECUTE_EVENT, self.told.root, 0, executed),
            *zip([REPLY] * len(self.receivers), self.told.values, self.receivers, self.replies, strict=True),
        ]


def _last(times: Times) -> int:
    """The last of these that comes at all."""
    last = int(times.max())
    return last if last < NEVER else int(times[times < NEVER].max())


class Log:
    """Entries until they are over, and what they come to."""

    def __init__(self, config: Config, sizes: Sizes, recorder: Recorder, members: Members) -> None:
        self._config, self._recorder, self._members = config, recorder, members
        self._tally, self._mixer = Tally(config, sizes), bulk.Mixer()
        self._open: list[Entry] = []
        self._heads: list[tuple[int, int, int, int]] = []
        self._rows: list[Times] = []
        self._decided: list[Decision] = []
        self._others = ~np.eye(config.nodes, dtype=np.bool_)
        self.delivered = 0

    def add(self, entry: Entry) -> None:
        """A batch was proposed. What was over before is mixed in now and then."""
        self._open.append(entry)
        if len(self._open) >= SETTLED_EVERY or entry.wave.first.size > ROWS_TOGETHER:
            now = entry.wave.proposed
            for one in self._open:
                if one.over <= now:
                    self._settle(one, NEVER - 1)
            self._open = [one for one in self._open if one.over > now]

    def agreed(self, entry: Entry, voted: Agreement) -> None:
        """The votes for the checkpoint at *entry*, which is the last one."""
        entry.checkpoint, entry.over = voted, max(entry.over, _last(voted.votes))
        for one in self._open:
            if one.covered is None:
                one.covered = voted.stable

    def finish(self, end: int) -> None:
        """The run is over at *end*: what would come later did not happen."""
        for entry in self._open:
            self._settle(entry, end)
        self._open = []
        self._mix_rows()
        self._recorder.trace.add(self._mixer.total())
        self._tally.finish(self._recorder)
        for decision in sorted(self._decided, key=lambda one: one.seq):
            self._recorder.decisions[decision.seq] = decision

    # --- what is over ---

    def _settle(self, entry: Entry, end: int) -> None:
        """Only what happened up to *end* did."""
        members, n = self._members, self._config.nodes
        last = np.minimum(members.until, end)
        said = entry.spoken(members)
        for kind, first, digest, _, arrivals in said:
            self._mixer.deliveries(kind, first, entry.seq, digest, arrivals, last)
        for kind, digest, receiver, times in entry.done():
            self._heads.append((kind, entry.seq, digest, receiver))
            self._rows.append(times if entry.over <= end else np.where(times > end, NEVER, times))
        if len(self._rows) * n > ROWS_TOGETHER:
            self._mix_rows()
        if members.whole and entry.over <= end:
            self._count_whole(entry)
        else:
            self._count_some(entry, said, last, end)
        self._count_late(entry, last)
        self._decide(entry, end)

    def _mix_rows(self) -> None:
        if not self._rows:
            return
        kinds, seqs, _, receivers = (np.array(column) for column in zip(*self._heads, strict=True))
        digests = np.array([head[2] for head in self._heads], dtype=np.uint64)
        self._mixer.told(kinds, seqs, digests, receivers, np.stack(self._rows))
        self._heads, self._rows = [], []

    def _decide(self, entry: Entry, end: int) -> None:
        executed = entry.wave.executed
        ranked, made = np.sort(executed[executed <= end]), Decision(entry.seq)
        if not len(ranked):
            return
        made.transactions, made.bytes = len(entry.receivers), entry.size
        made.proposed_ns = entry.wave.proposed
        if len(ranked) >= self._config.quorum:
            made.quorum_ns = int(ranked[self._config.quorum - 1])
            live = executed[self._members.until >= made.quorum_ns]
            if live.max() <= end:
                made.all_ns = max(made.quorum_ns, int(live.max()))
        self._decided.append(made)
        self._recorder.last_commit_ns = max(self._recorder.last_commit_ns, int(ranked[-1]))

    # --- counts ---

    def _count_whole(self, entry: Entry) -> None:
        n, agreed = self._config.nodes, entry.checkpoint is not None
        self._tally.whole(entry.seq, entry.size, entry.told.reply_sizes, agreed)
        # 1 PrePrepare, n - 1 Prepares, n Commits and perhaps votes for a checkpoint, to all others each; and replies.
        self.delivered += (2 * n + n * agreed) * (n - 1) + entry.replies.size
        if agreed:
            self._ignored(OLD_CHECKPOINT, n * (n - self._config.quorum))

    def _count_some(
        self, entry: Entry, said: list[tuple[int, int, int, Times, Times]], last: Times, end: int
    ) -> None:
        """*last* (n,): when each receiver takes something for the last time."""
        for kind, first, _, when, arrivals in said:
            self._tally.some(kind, entry.seq, entry.size, first + np.flatnonzero(when <= end))
            to_others = arrivals[self._others[first : first + len(arrivals)]]
            limits = np.broadcast_to(last, arrivals.shape)[self._others[first : first + len(arrivals)]]
            taken, came = int((to_others <= limits).sum()), int((to_others <= end).sum())
            self.delivered += came
            if came > taken:
                self._recorder.dropped["crash"] += came - taken
        answered = self._members.said(entry.wave.executed) <= end
        self._tally.some_replies(entry.told.reply_sizes, np.flatnonzero(answered))
        self.delivered += int((entry.replies <= end).sum())
        if entry.checkpoint is not None:
            arrived = (entry.checkpoint.votes <= last).sum(axis=0)  # its own is there when a replica executes
            self._ignored(OLD_CHECKPOINT, int(np.maximum(0, arrived - self._config.quorum).sum()))

    def _count_late(self, entry: Entry, last: Times) -> None:
        """Votes that arrive when a checkpoint that covers them is stable."""
        stable = entry.covered
        if stable is None or entry.over < stable.min():
            return
        votes = entry.wave.votes.copy()
        votes[:, ~self._others] = 0  # a replica's own is never late
        together = ((votes == stable) & (stable < NEVER)).sum(axis=(0, 1))
        if entry.checkpoint is not None:
            # Where its own vote was the last that was missing, one of these made it execute.
            together -= (stable == entry.wave.executed) & (together > 0)
        if together.any():
            raise Uncovered("a vote in the nanosecond in which a checkpoint becomes stable")
        self._ignored(OLD_VOTE, int(((votes > stable) & (votes <= last)).sum()))

    def _ignored(self, why: str, count: int) -> None:
        if count:
            self._recorder.ignored[why] += count
