"""Which signatures inside a message a replica would come to, as it stands: for whoever charges it for their checking.

The handlers look at what a message is about before they look at its proofs. A copy of a proposal, a block that was
executed meanwhile, a checkpoint that is stable already: all that costs is the sender's own signature. Catching up would
drown in it otherwise, for f+1 peers answer each question.
"""

from __future__ import annotations

from tradebft.consensus.messages import FetchReply, Message, PrePrepare
from tradebft.consensus.pbft.recovery import BLOCKS_A_REPLY
from tradebft.consensus.pbft.state import State


def checks_inside(replica: State, message: Message) -> int | None:
    """How many signatures *replica* checks inside *message* if it comes to it now; None: whatever is in it.

    What it learns before it comes to it is not in this; more than it checks then is possible, less is not, unless the
    views change meanwhile.
    """
    if isinstance(message, PrePrepare):
        return len(message.batch.requests) if message.batch is not None and _is_news(replica, message) else 0
    return _of_history(replica, message) if isinstance(message, FetchReply) else None


def _is_news(replica: State, proposal: PrePrepare) -> bool:
    """Of an earlier view, executed, or below the low watermark: no. Above the high one it may still come to fit."""
    if proposal.view < replica.view or proposal.seq <= max(replica.low, replica.executed):
        return False
    slot = replica.slots.get(proposal.seq)
    return slot is None or slot.digest is None or proposal.view != replica.voting_view


def _of_history(replica: State, reply: FetchReply) -> int:
    """The certificate of each block that is next, and of a later checkpoint. Clients' signatures do not matter: of the
    quorum that committed them, honest members have checked them."""
    height, checks = replica.executed, 0
    for block in reply.blocks[:BLOCKS_A_REPLY]:
        if block.seq == height + 1:
            height, checks = block.seq, checks + len(block.certificate.votes)
    proof = reply.checkpoint
    return checks + (len(proof.votes) if proof is not None and proof.seq > replica.low else 0)
