"""The verbs with which a transcript plays Byzantine members: messages that their replicas never made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace
from tradebft.consensus.messages import (
    Batch,
    Chunk,
    Commit,
    FetchReply,
    Prepare,
    PrePrepare,
    Request,
    SnapshotHead,
    sender_of,
)

if TYPE_CHECKING:
    from transcript import Traced

NOBODY = b"x" * 64  # a signature that nobody made


class Byzantine:
    """Every lie is under the liar's own signature, unless the verb says otherwise."""

    net: Traced
    requests: dict[str, Request]

    def do_forge(
        self,
        sender: str,
        kind: str,
        view: str,
        seq: str,
        operations: str,
        *,
        to: str,
        chain: str = "",
        unsigned: str = "",
    ) -> Iterator[str]:
        """forge 0 PrePrepare v0 s1 A+B to=3,2: also v1..v9; chain=x signs for chain x, unsigned=B: not by B's client"""
        net = self.net
        names = operations.split("+")
        for name in names:
            if name not in self.requests:
                sequence = 1 + sum(request.client == "mill" for request in self.requests.values())
                self.requests[name] = net.request(sequence, name.encode(), "mill")
        asked = (
            replace(self.requests[name], signature=NOBODY)
            if name in unsigned.split(",")
            else self.requests[name]
            for name in names
        )
        batch = Batch(net.now, tuple(asked))
        net.learn(batch)
        first, _, last = view.replace("v", "").partition("..")
        for number in range(int(first), int(last or first) + 1):
            place = (number, int(seq[1:]), batch.digest, int(sender))
            bare = {
                "PrePrepare": lambda place: PrePrepare(*place, batch),
                "Prepare": lambda place: Prepare(*place),
                "Commit": lambda place: Commit(*place),
            }[kind](place)
            signed = net.signed(bare)
            if chain:
                signature = net.signers[int(sender)].sign(bare.payload(chain.encode()))
                signed = replace(bare, signature=signature)
            net.bag += [(int(receiver), signed) for receiver in to.split(",")]
        return iter(())

    def do_checkpoint(self, sender: str, seq: str, *, to: str) -> Iterator[str]:
        """checkpoint 3 s2 to=0,1: a Checkpoint of a state that nobody is in"""
        message = self.net.checkpoint(int(sender), int(seq[1:]), b"w" * 32)
        self.net.bag += [(int(receiver), message) for receiver in to.split(",")]
        return iter(())

    def do_claim(
        self,
        sender: str,
        view: str,
        *,
        to: str,
        h: str = "0",
        proof: str = "",
        prepared: str = "",
        voters: str = "",
    ) -> Iterator[str]:
        """claim 3 v1 prepared=s1:B@0 voters=3,3 to=0: a ViewChange that says what was not, with these members' votes;
        h=2 proof=0,3: it also says that these members' Checkpoints make 2 stable (without `proof`: a quorum's)"""
        net, shown = self.net, []
        if prepared:
            seq, name = prepared.split(":")
            name, _, earlier = name.partition("@")
            who = [int(voter) for voter in voters.split(",")] if voters else None
            shown.append(net.prepared(int(seq[1:]), self._digest(name), int(earlier or 0), who))
        signers = [int(member) for member in proof.split(",")] if proof else range(net.config.quorum)
        stable = net.certificate("Checkpoint", int(h), b"s" * 32, signers) if int(h) else None
        message = net.view_change(int(sender), int(view[1:]), shown, int(h), stable)
        net.bag += [(int(receiver), message) for receiver in to.split(",")]
        return iter(())

    def do_open(
        self, sender: str, view: str, *, to: str, changes: str, carries: str | None = None, unsigned: str = ""
    ) -> Iterator[str]:
        """open 1 v1 changes=1,2,3 carries=s1:B unsigned=3 to=0: a NewView of the sender's own making, with ViewChanges
        that were sent (those of unsigned members say nothing, and are not by them); without `carries` what follows"""
        net, number = self.net, int(view[1:])
        shown = []
        for i in map(int, changes.split(",")):
            if str(i) in unsigned.split(","):
                shown.append(replace(net.view_change(i, number), signature=NOBODY))
            else:
                shown.append(net.changes.get((i, number)) or net.view_change(i, number))
        pairs = [part.split(":") for part in (carries or "").split(",") if part]
        carried = None if carries is None else [(int(seq[1:]), self._digest(name)) for seq, name in pairs]
        message = net.new_view(shown, carried, number, int(sender))
        net.bag += [(int(receiver), message) for receiver in to.split(",")]
        return iter(())

    def do_corrupt(self, kind: str, *, sender: str) -> Iterator[str]:
        """corrupt Chunk sender=1: what these on the wire carry is exchanged, under the sender's own signature"""
        net, changed = self.net, 0
        for place, (to, message) in enumerate(net.bag):
            if type(message).__name__ == kind and str(sender_of(message)) == sender:
                net.bag[place] = to, net.signed(_exchanged(message), int(sender))
                changed += 1
        yield f"changed {changed}"

    def do_disguise(self, kind: str, *, sender: str) -> Iterator[str]:
        """disguise Prepare sender=2: its votes on the wire become the other kind; the signatures stay"""
        net, changed = self.net, 0
        for place, (to, message) in enumerate(net.bag):
            if type(message).__name__ == kind and str(sender_of(message)) == sender:
                other = Commit if kind == "Prepare" else Prepare
                net.bag[place] = to, other(*(getattr(message, name) for name in message.__struct_fields__))
                changed += 1
        yield f"changed {changed}"

    def _digest(self, name: str) -> bytes:
        """Of the batch that is called so; of one that nobody proposed, where there is none."""
        known = {called: digest for digest, called in self.net.names.items()}
        if name not in known:
            self.net.names[b"%-32s" % name.encode()] = name
        return known.get(name, b"%-32s" % name.encode())


def _exchanged(message: Any) -> Any:
    """The same message with other contents."""
    match message:
        case Chunk():
            return replace(message, data=b"a lie")
        case FetchReply(blocks, bodies):
            other = Batch(7, ())
            return replace(
                message,
                blocks=tuple(replace(block, batch=other) for block in blocks),
                bodies=tuple(Batch(7, body.requests) for body in bodies),
            )
        case PrePrepare():
            return replace(message, batch=Batch(7, message.batch.requests))
        case SnapshotHead(manifest):
            return replace(message, manifest=replace(manifest, root=b"w" * 32))
    raise ValueError(f"there is no other {type(message).__name__} to be had")
