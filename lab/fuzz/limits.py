"""Bounds on what an honest replica keeps: memory must not grow with what others send (bug 13 of docs/protocol.md's
list: unbounded buffers for future views and sequences).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tradebft.consensus.interface import Config
from tradebft.consensus.pbft.recovery import BLOCKS_A_REPLY


def exceeded(replica: Any, config: Config, everybody: int, torn: bool = False) -> Iterator[tuple[str, str]]:
    """(invariant, what) for every bound that *replica* breaks now. What a protocol does not have is not looked at.

    *everybody*: how many members there are, whether they are replicas at the time or not. *torn*: disks lose what was
    being written, such as the checkpoint that came with fetched blocks; until it hears of it again, a replica stands
    further above its watermark than the window is long.
    """
    window = config.log_window
    faults = max(config.faults, getattr(getattr(replica, "committee", None), "faults", 0))
    for name, invariant, most in (
        ("slots", "bounded-log", window),
        ("bodies", "bounded-buffers", (faults + 2) * window),
        ("waiting", "bounded-buffers", config.max_requests_waiting),
        ("handed_out", "bounded-buffers", 2 * window + BLOCKS_A_REPLY),
        ("own_checkpoints", "bounded-buffers", window // config.checkpoint_interval + 1),
        ("accepted_ns", "bounded-buffers", window),
        ("tables", "bounded-buffers", window // config.checkpoint_interval + BLOCKS_A_REPLY),
        ("nonces", "bounded-buffers", everybody),
    ):
        held = getattr(replica, name, None)
        if held is not None and len(held) > most:
            yield invariant, f"{len(held)} {name}, at most {most}"
    low = getattr(replica, "low", None)
    if low is not None:
        if low % config.checkpoint_interval:
            yield "watermarks", f"low watermark {low}, with a checkpoint every {config.checkpoint_interval}"
        outside = [seq for seq in getattr(replica, "slots", ()) if not low < seq <= low + window]
        if outside:
            yield "watermarks", f"slots {outside[:5]} lie outside ({low}, {low + window}]"
        # Who catches up executes to the end of an epoch before it learns of a checkpoint that it can check.
        waits = bool(getattr(replica, "pending", ()))
        if replica.executed - low > window and not torn and not waits:
            yield "watermarks", f"executed {replica.executed}, more than {window} above the watermark {low}"
    early = getattr(replica, "early", None)
    if early is not None and early.most() > 2 * config.log_window:
        yield "bounded-buffers", f"{early.most()} early messages of one sender"
