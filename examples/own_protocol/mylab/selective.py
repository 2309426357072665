"""A misbehaviour of one's own: a member that votes only for what concerns its favourite client."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from tradebft.consensus.byzantine import Behaviour
from tradebft.consensus.interface import Broadcast, Effect, Send
from tradebft.consensus.messages import Commit, Prepare, PrePrepare


class Selective(Behaviour):
    """In a scenario: [[byzantine]] node = "replica.3" behaviour = "mylab.selective:Selective" client = "client.0"."""

    defaults: ClassVar[Mapping[str, Any]] = {"client": "client.0"}  # its parameters: keys of the table

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.liked: dict[tuple[int, int], bool] = {}

    def hears(self, now: int, event: Any) -> Any:
        """What the honest replica inside gets instead of *event*; None would keep it from it."""
        if isinstance(event, PrePrepare) and event.batch is not None:
            clients = {request.client for request in event.batch.requests}
            self.liked[event.view, event.seq] = self.parameters["client"] in clients
        return event

    def does(self, now: int, effect: Effect) -> Iterable[Effect]:
        """What is done instead of *effect*: here nothing, or the same."""
        vote = effect.message if isinstance(effect, Broadcast | Send) else None  # also when it is asked again
        if isinstance(vote, Prepare | Commit) and not self.liked.get((vote.view, vote.seq), True):
            return ()
        return (effect,)
