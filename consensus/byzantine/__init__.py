"""Members that misbehave, each as a wrapper around an honest replica.

`behaviour` has the shape of a wrapper and the coalition in which several act together; `silence` says too little or too
late, `lies` says what is false, `proposals` acts out of turn, `forgeries` lies about views, `epochs` about
the members, `transfer` to those who fell behind, `mutation` changes one field, `noise` says too much; `clients` are
clients that do not play fair.
A scenario names them (``[[byzantine]] node = "replica.0" behaviour = "equivocate"``), and so does the fuzzer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tradebft.consensus.byzantine.behaviour import Behaviour, Coalition, check
from tradebft.consensus.byzantine.epochs import FalseEpoch
from tradebft.consensus.byzantine.forgeries import FalseNewView, ForgePrepared, Premature
from tradebft.consensus.byzantine.lies import (
    BadSignature,
    Equivocate,
    FalseCheckpoint,
    FalseReply,
    VoteBoth,
    WrongDigest,
)
from tradebft.consensus.byzantine.mutation import Mutate
from tradebft.consensus.byzantine.noise import Amnesia, Flood, Malformed, Replay
from tradebft.consensus.byzantine.proposals import BadProposals, OverVote
from tradebft.consensus.byzantine.silence import Delay, MuteToSome, Omit, Silent, Starve, WithholdBodies
from tradebft.consensus.byzantine.transfer import LyingTransfer
from tradebft.consensus.interface import Replica

__all__ = ["BEHAVIOURS", "Behaviour", "Coalition", "check", "wrap"]

BEHAVIOURS: Final[dict[str, type[Behaviour]]] = {
    "silent": Silent,
    "omit": Omit,
    "mute-to-some": MuteToSome,
    "delay": Delay,
    "starve": Starve,
    "withhold-bodies": WithholdBodies,
    "equivocate": Equivocate,
    "vote-both": VoteBoth,
    "over-vote": OverVote,
    "bad-proposals": BadProposals,
    "wrong-digest": WrongDigest,
    "bad-signature": BadSignature,
    "false-reply": FalseReply,
    "forge-prepared": ForgePrepared,
    "false-new-view": FalseNewView,
    "false-checkpoint": FalseCheckpoint,
    "false-epoch": FalseEpoch,
    "lying-transfer": LyingTransfer,
    "flood": Flood,
    "malformed": Malformed,
    "replay": Replay,
    "premature": Premature,
    "amnesia": Amnesia,
    "mutate": Mutate,
}


def wrap(replica: Replica, behaviour: str, parameters: Mapping[str, Any], coalition: Coalition) -> Replica:
    """*replica* misbehaving as *behaviour* says; ValueError for a name or a parameter that there is not."""
    kind = BEHAVIOURS.get(behaviour)
    if kind is None:
        raise ValueError(f"no behaviour {behaviour!r}; there are {', '.join(BEHAVIOURS)}")
    return kind(replica, coalition, parameters)
