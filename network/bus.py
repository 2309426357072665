"""What a node may ask of a bus. `simulated` answers in virtual time; real buses answer with sockets."""

from __future__ import annotations

from typing import Any, Protocol

from tradebft.consensus.interface import Address
from tradebft.consensus.messages import Message


class Bus(Protocol):
    """Moves messages and keeps timers for the endpoints of one network. Times in nanoseconds."""

    def send(self, at: int, sender: int, to: Address, message: Message) -> None:
        """Hand *message* to the network at time *at*, for one replica or client."""
        ...

    def broadcast(self, at: int, sender: int, message: Message, to: tuple[int, ...] | None = None) -> None:
        """Hand *message* to the network at time *at*, for every replica but the sender, or for those of *to*."""
        ...

    def set_timer(self, now: int, endpoint: int, name: str, delay_ns: int) -> None:
        """Call the endpoint's ``timer(now, name)`` in *delay_ns*, unless it is cancelled or set again before."""
        ...

    def cancel_timer(self, endpoint: int, name: str) -> None:
        """Stop a timer, if it runs."""
        ...

    def later(self, at: int, endpoint: int, work: Any) -> None:
        """Call the endpoint's ``process(at, work)`` at time *at*: its processor will be done by then."""
        ...
