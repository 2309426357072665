"""Messages that are nearly right: each kind's real messages with one field changed by one step, by name.

ByzzFuzz (Winter and others, OOPSLA 2023) calls these small-scope mutations and finds that they reach further into a
protocol than arbitrary ones: they pass the first checks. What is changed inside is signed again where its author is the
liar; what others signed keeps their signatures, so that some lies show and some do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from msgspec.structs import replace
from tradebft.chain.crypto import QuorumCertificate
from tradebft.consensus.interface import Config
from tradebft.consensus.messages import (
    NULL_BATCH,
    NULL_DIGEST,
    Batch,
    Checkpoint,
    Commit,
    Fetch,
    FetchReply,
    NewView,
    Prepare,
    Prepared,
    PrePrepare,
    Reply,
    Status,
    ViewChange,
    result_digest,
)
from tradebft.consensus.pbft.view_change import proposals


class Scene(NamedTuple):
    """What a liar knows: itself, how to sign, every batch that was proposed so far, and older certificates."""

    me: int
    config: Config
    sign: Callable[[Any], Any]  # with my key, whoever the message names
    batches: dict[bytes, Batch]  # by digest, oldest first
    certificates: dict[tuple[int, int], Prepared]  # by view and seq


Steps = Iterator[tuple[str, tuple[Any, ...]]]
Changes = Iterator[tuple[str, Any]]


def steps(message: Any, scene: Scene) -> Steps:
    """(name, what is sent instead, not signed yet) for every small step away from *message*; names are unique."""
    kind = _KINDS.get(type(message))
    if kind is None:
        return
    yield "left out", ()
    yield "said twice", (message, message)
    for name, changed in kind(message, scene):
        yield name, (changed,)
    yield "sender+1", (replace(message, replica=(message.replica + 1) % scene.config.nodes),)


def _numbers(message: Any, **sizes: int) -> Changes:
    """Each of these fields, one step up and one down; nothing below 0."""
    for name, size in sizes.items():
        value = getattr(message, name)
        yield f"{name}+{size}", replace(message, **{name: value + size})
        if value >= size:
            yield f"{name}-{size}", replace(message, **{name: value - size})


def _digests(message: Any, scene: Scene) -> Changes:
    other = next((value for value in reversed(scene.batches) if value != message.digest), None)
    if other is not None:
        yield "digest other", replace(message, digest=other)
    if message.digest != NULL_DIGEST:
        yield "digest null", replace(message, digest=NULL_DIGEST)


# --- the normal case ---


def _pre_prepare(message: PrePrepare, scene: Scene) -> Changes:
    yield from _numbers(message, view=1, seq=1)
    yield from _digests(message, scene)
    batch = message.batch
    if batch is None:
        return
    yield "batch missing", replace(message, batch=None)
    asked = batch.requests
    others = {
        "batch null": NULL_BATCH,
        "batch later": Batch(batch.timestamp_ns + 1, asked),
        "batch reordered": Batch(batch.timestamp_ns, asked[::-1]),
        "request dropped": Batch(batch.timestamp_ns, asked[:-1]),
        "request repeated": Batch(batch.timestamp_ns, asked + asked[-1:]),
        "request forged": Batch(
            batch.timestamp_ns, (*asked[:-1], *(replace(r, operation=r.operation + b"0") for r in asked[-1:]))
        ),
    }
    previous = next(
        (held for value, held in reversed(scene.batches.items()) if value != message.digest), None
    )
    if previous is not None:
        others["batch other"] = previous
    for name, other in others.items():
        if other != batch:
            yield name, replace(message, digest=other.digest, batch=other)


def _vote(message: Prepare | Commit, scene: Scene) -> Changes:
    yield from _numbers(message, view=1, seq=1)
    yield from _digests(message, scene)
    other = Commit if isinstance(message, Prepare) else Prepare
    yield f"kind {other.__name__}", other(message.view, message.seq, message.digest, message.replica)


def _checkpoint(message: Checkpoint, scene: Scene) -> Changes:
    yield from _numbers(message, seq=scene.config.checkpoint_interval, epoch=1)
    yield "seq+1", replace(message, seq=message.seq + 1)
    yield from _digests(message, scene)


def _reply(message: Reply, scene: Scene) -> Changes:
    yield from _numbers(message, view=1, seq=1, sequence=1)
    other = message.result[::-1]
    yield "result other", replace(message, result=other, result_digest=result_digest(other))
    yield "result without its digest", replace(message, result=other)
    yield "result missing", replace(message, result=b"")


# --- the view change ---


def _view_change(message: ViewChange, scene: Scene) -> Changes:
    yield from _numbers(message, view=1, stable=scene.config.checkpoint_interval)
    proof = message.checkpoint
    if proof is not None:
        yield "checkpoint missing", replace(message, checkpoint=None)
        yield "checkpoint forgotten", replace(message, checkpoint=None, stable=0)
        for name, other in _certificates(proof):
            yield f"checkpoint {name}", replace(message, checkpoint=other)
    for name, shown in _prepared_sets(message.prepared, message.view, scene):
        yield name, replace(message, prepared=shown)


def _prepared_sets(shown: tuple[Prepared, ...], view: int, scene: Scene) -> Changes:
    """What a ViewChange may claim instead of the certificates that it has."""
    if not shown:
        old = scene.certificates
        if old:  # what was garbage collected long ago
            yield "prepared from the past", (next(iter(old.values())),)
        return
    first, last = shown[0], shown[-1]
    yield "prepared omitted", ()
    yield "prepared repeated", (*shown, last)
    if len(shown) > 1:
        yield "prepared without the first", shown[1:]
        yield "prepared without the last", shown[:-1]
        yield "prepared in another order", shown[::-1]
    for name, votes in _certificates(last.prepares):
        yield f"prepared {name}", (*shown[:-1], Prepared(last.pre_prepare, votes))
    for name, claimed in _with_claims(shown, view, scene):
        yield f"prepared {name}", claimed
    key = first.pre_prepare.view, first.pre_prepare.seq
    older = next(
        (held for (v, s), held in scene.certificates.items() if s == key[1] and v < key[0]), None
    )  # of an earlier view
    if older is not None:
        yield "prepared older", (older, *shown[1:])


def _with_claims(
    shown: tuple[Prepared, ...], view: int, scene: Scene
) -> Iterator[tuple[str, tuple[Prepared, ...]]]:
    """These certificates with the first or the last of them changed."""
    for name, changed in _claims(shown[-1], view, scene) if shown else ():
        yield f"last {name}", (*shown[:-1], changed)
    for name, changed in _claims(shown[0], view, scene) if len(shown) > 1 else ():
        yield f"first {name}", (changed, *shown[1:])


def _claims(entry: Prepared, view: int, scene: Scene) -> Iterator[tuple[str, Prepared]]:
    """A certificate for something else than it is for: its votes keep their signatures."""
    proposal, votes = entry.pre_prepare, entry.prepares
    other = next((value for value in reversed(scene.batches) if value != proposal.digest), NULL_DIGEST)
    for name, fields in (
        ("for a later view", {"view": proposal.view + 1}),
        ("for another digest, just before", {"view": view - 1, "digest": other}),
        ("for the next seq", {"seq": proposal.seq + 1}),
        ("for another digest", {"digest": other}),
        ("for the null batch", {"digest": NULL_DIGEST}),
    ):
        changed = replace(proposal, **fields)
        signed = scene.sign(changed) if changed.replica == scene.me else changed
        yield name, Prepared(signed, replace(votes, **fields))
    yield "of another proposal", Prepared(replace(proposal, digest=other), votes)


def _certificates(proof: QuorumCertificate) -> Iterator[tuple[str, QuorumCertificate]]:
    votes = proof.votes
    yield "less a vote", replace(proof, votes=votes[:-1])
    yield "a vote repeated", replace(proof, votes=(*votes[:-1], votes[0]))
    yield "a vote under another name", replace(proof, votes=(*votes[:-1], (votes[-1][0], votes[0][1])))


def _new_view(message: NewView, scene: Scene) -> Changes:
    yield from _numbers(message, view=1)
    shown, carried = message.view_changes, message.proposals
    for name, changes in _shown_otherwise(message, scene):
        yield name, replace(message, view_changes=changes)
        # With the proposals that follow, it is wrong in one place only.
        following = tuple(_proposal(message, seq, value, scene) for seq, value in proposals(changes)[1])
        if [p.digest for p in following] != [p.digest for p in carried]:
            yield f"{name}, with what follows", replace(message, view_changes=changes, proposals=following)
    yield "proposals missing", replace(message, proposals=())
    low = max(change.stable for change in shown)
    extra = _proposal(message, (carried[-1].seq if carried else low) + 1, NULL_DIGEST, scene)
    yield "proposal added", replace(message, proposals=(*carried, extra))
    if not carried:
        return
    last = carried[-1]
    other = next((value for value in reversed(scene.batches) if value != last.digest), NULL_DIGEST)
    for name, changed in (
        ("proposal nulled", _proposal(message, last.seq, NULL_DIGEST, scene)),
        ("proposal other", _proposal(message, last.seq, other, scene)),
        ("proposal seq+1", _proposal(message, last.seq + 1, last.digest, scene)),
        ("proposal of the next view", scene.sign(replace(last, view=last.view + 1))),
        ("proposal not signed", replace(last, signature=bytes(64))),
        ("proposal repeated", last),
    ):
        kept = carried if name == "proposal repeated" else carried[:-1]
        if changed != last or kept is carried:
            yield name, replace(message, proposals=(*kept, changed))
    if len(carried) > 1:
        yield "first proposal dropped", replace(message, proposals=carried[1:])
        yield "last proposal dropped", replace(message, proposals=carried[:-1])
        one, two = carried[0], carried[1]
        swapped = (
            _proposal(message, one.seq, two.digest, scene),
            _proposal(message, two.seq, one.digest, scene),
        )
        yield "proposals exchanged", replace(message, proposals=(*swapped, *carried[2:]))


def _proposal(message: NewView, seq: int, digest: bytes, scene: Scene) -> PrePrepare:
    signed: PrePrepare = scene.sign(PrePrepare(message.view, seq, digest, scene.me))
    return signed


def _shown_otherwise(message: NewView, scene: Scene) -> Iterator[tuple[str, tuple[ViewChange, ...]]]:
    """Other ViewChanges than the quorum that there was."""
    shown = message.view_changes
    # My own says what I like, since I sign it; the others' signatures do not hold any more once they are changed.
    mine = next((change for change in shown if change.replica == scene.me), shown[0])
    emptied: ViewChange = scene.sign(replace(mine, prepared=()))
    rest = tuple(change for change in shown if change.replica != scene.me)
    yield "V repeated", (*shown[:-1], shown[0])
    yield "V repeated once more", (*shown, shown[0])
    yield "V less one", shown[:-1]
    yield "V of one", (mine,) * len(shown)
    yield "V of one emptied", (emptied,) * len(shown)
    yield "own ViewChange emptied", (emptied, *rest)
    later: ViewChange = scene.sign(replace(mine, prepared=mine.prepared[1:]))
    if later.prepared:
        yield "V of one without its first", (later,) * len(shown)
        yield "all ViewChanges emptied but my last", (later, *(replace(each, prepared=()) for each in rest))
    yield "others' ViewChanges emptied", (mine, *(replace(change, prepared=()) for change in rest))
    yield "all ViewChanges emptied", (emptied, *(replace(change, prepared=()) for change in rest))
    for name, claimed in _with_claims(mine.prepared, message.view, scene):
        yield f"own ViewChange, prepared {name}", (scene.sign(replace(mine, prepared=claimed)), *rest)


# --- catching up ---


def _status(message: Status, scene: Scene) -> Changes:
    yield from _numbers(message, view=1, stable=scene.config.checkpoint_interval, executed=1, nonce=1, held=1)
    yield "changing", replace(message, changing=not message.changing)


def _fetch(message: Fetch, scene: Scene) -> Changes:
    yield from _numbers(message, seq=1)
    yield from _digests(message, scene)


def _fetch_reply(message: FetchReply, scene: Scene) -> Changes:
    blocks, bodies = message.blocks, message.bodies
    if message.checkpoint is not None:
        yield "checkpoint missing", replace(message, checkpoint=None)
        for name, other in _certificates(message.checkpoint):
            yield f"checkpoint {name}", replace(message, checkpoint=other)
    if bodies:
        yield "bodies missing", replace(message, bodies=())
        later = Batch(bodies[-1].timestamp_ns + 1, bodies[-1].requests)
        yield "body later", replace(message, bodies=(*bodies[:-1], later))
    if not blocks:
        return
    yield "last block missing", replace(message, blocks=blocks[:-1])
    first = blocks[0]
    yield "first block repeated", replace(message, blocks=(first, *blocks))
    later = Batch(first.batch.timestamp_ns + 1, first.batch.requests)
    for name, changed in (
        ("seq+1", replace(first, seq=first.seq + 1)),
        ("batch later", replace(first, batch=later)),
        ("batch null", replace(first, batch=NULL_BATCH)),
        *((name, replace(first, certificate=proof)) for name, proof in _certificates(first.certificate)),
    ):
        yield f"block {name}", replace(message, blocks=(changed, *blocks[1:]))


_KINDS: Final[dict[type, Callable[[Any, Scene], Changes]]] = {
    PrePrepare: _pre_prepare,
    Prepare: _vote,
    Commit: _vote,
    Checkpoint: _checkpoint,
    Reply: _reply,
    ViewChange: _view_change,
    NewView: _new_view,
    Status: _status,
    Fetch: _fetch,
    FetchReply: _fetch_reply,
}
