"""What the kernel is told once: settings of the protocol, and what computing costs."""

from __future__ import annotations

from tradebft.consensus.interface import Config
from tradebft.network.compiled.memory import (
    AHEAD,
    AHEAD_OTHERS,
    BATCH_BYTES,
    BATCH_SIZE,
    BATCH_TIMEOUT,
    CHECKS,
    CLIENT_WINDOW,
    CPU,
    EXECUTE_NS,
    FAULTS,
    KILOBYTE_NS,
    MESSAGE_NS,
    NODES,
    QUORUM,
    REQUESTS_WAITING,
    ROOM_NEEDED,
    SIGN_NS,
    SNAPSHOTS,
    STATUS_FIXED,
    STATUS_NS,
    VERIFY_NS,
    VIEW_TIMEOUT,
    WINDOW,
    K,
    L,
)
from tradebft.network.costs import CpuCosts


def numbers_of(config: Config, costs: CpuCosts | None, checks: int) -> dict[int, int]:
    """What does not change during a run; sizes and bounds that need an encoding are the cluster's."""
    found = {
        NODES: config.nodes,
        FAULTS: config.faults,
        QUORUM: config.quorum,
        K: config.checkpoint_interval,
        L: config.log_window,
        WINDOW: config.window,
        AHEAD: config.window + 4,
        AHEAD_OTHERS: 4,
        BATCH_SIZE: config.batch_size,
        BATCH_BYTES: config.batch_bytes,
        BATCH_TIMEOUT: config.batch_timeout_ns,
        VIEW_TIMEOUT: config.view_change_timeout_ns,
        STATUS_NS: config.status_ns,
        STATUS_FIXED: int(config.status_interval_ns > 0),
        SNAPSHOTS: config.snapshot_interval,
        CHECKS: checks,
        REQUESTS_WAITING: config.max_requests_waiting,
        CLIENT_WINDOW: config.client_window,
        ROOM_NEEDED: 2 * config.log_window + config.batch_size + 4 * config.window + 320,
    }
    if costs is not None:
        found |= {
            CPU: 1,
            MESSAGE_NS: costs.message_ns,
            KILOBYTE_NS: costs.kilobyte_ns,
            SIGN_NS: costs.sign_ns,
            VERIFY_NS: costs.verify_ns,
            EXECUTE_NS: costs.execute_ns,
        }
    return found
