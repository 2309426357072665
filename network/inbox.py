"""How much of what others send a member takes in, simulated or real."""

from __future__ import annotations

from typing import Final

from tradebft.consensus.interface import Config

INPUTS_A_TURN: Final = 256  # of a member that works in turns: then what they led to is made durable and sent
INBOX_PER_SENDER: Final = 1024
"""Messages of one sender that may wait for a member's processor (assumption), or as many as a client may have
outstanding if that is more: more than an honest one ever has there, few enough that a flood delays the others by
milliseconds only."""


def inbox_of(config: Config) -> int:
    """Messages of one sender that may wait in a network of that configuration."""
    return max(INBOX_PER_SENDER, config.client_window)
