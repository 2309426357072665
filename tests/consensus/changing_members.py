"""What the tests of changes of members share: spare replicas, later keys, and a record of all votes."""

from __future__ import annotations

from collections.abc import Iterable

from replicas import Network
from tradebft.consensus.interface import Broadcast
from tradebft.consensus.membership import Members, epoch_of, first_view
from tradebft.consensus.messages import Commit, Prepare, PrePrepare
from tradebft.network.application import members_operation

EPOCH = first_view(1)


def network(n: int = 4, spare: int = 2, **config) -> Network:
    """Checkpoints every 2 sequences, windows of 4: what is agreed at 1 takes effect at 6."""
    settings = {"batch_size": 1, "checkpoint_interval": 2, "log_window": 4, "window": 4, **config}
    return Network(n, spare=spare, later_keys=1, **settings)


def members(net: Network, *indices: int, rekeyed: Iterable[int] = ()) -> Members:
    return tuple((i, net.keys[i][1] if i in rekeyed else b"") for i in indices)


def agree(net: Network, new: Members, sequence: int = 1, without: Iterable[int] = ()) -> None:
    """The governance's client has *new* agreed, and everything happens that follows."""
    net.serve([sequence], client="mill", operation=members_operation(new), without=set(without))


def epochs(net: Network) -> dict[int, int]:
    return {i: replica.committee.epoch for i, replica in net.replicas.items()}


class Votes:
    """Everything that anybody votes for from now on. Nobody votes for two things at one place, restarts included."""

    def __init__(self, net: Network) -> None:
        self.seen: dict[tuple[int, type, int, int], bytes] = {}
        net.watch = self._watch

    def _watch(self, i: int, effect: object) -> None:
        if isinstance(effect, Broadcast) and isinstance(effect.message, PrePrepare | Prepare | Commit):
            vote = effect.message
            known = self.seen.setdefault((i, type(vote), vote.view, vote.seq), vote.digest)
            assert known == vote.digest, f"{i} votes twice at {vote.seq}"

    def judge(self, net: Network, *boundaries: int) -> None:
        """Nobody voted beyond a boundary in the epoch before it. All of *boundaries* if they are known."""
        ends = [proof.certificate.seq for proof in net.replicas[1].epochs]
        assert not boundaries or ends == list(boundaries)
        assert self.seen
        for _, _, view, seq in self.seen:
            assert epoch_of(view) == sum(seq > end for end in ends), (view, seq, ends)
