"""A case: everything that one trial of the fuzzer depends on, and the replay file that it travels in.

A replay file is JSON: the case in full (not its seed alone, so that a shrunk case is a file like any other), the
violation that is expected, the digest of the run, and the version of the tool that wrote it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec
from tradebft.consensus.interface import Config
from tradebft.consensus.invariants import Violation
from tradebft.lab.metrics import tradebft_version
from tradebft.network.faults import Fault

FORMAT: Final = "tradebft-replay-1"
FOR_EVER: Final = None


class CaseError(Exception):
    """A replay file that cannot be read. The message is one line and names the path."""


class Links(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long messages take: a model of `network.links` by name, and its parameters."""

    model: str
    parameters: dict[str, int | float]


class Ask(msgspec.Struct, frozen=True, array_like=True):
    """*client* submits its operation *number* at *at_ns*."""

    at_ns: int
    client: str
    number: int


class Adversary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Member *node* misbehaves, from *at_ns* until *until_ns* (None: for ever). Several on one node add up."""

    node: int
    behaviour: str
    parameters: dict[str, Any] = {}
    at_ns: int = 0
    until_ns: int | None = None


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One trial: a cluster, its links, a workload, and what goes wrong. Times in ns.

    Faults that end do so by *storm_ns*; those without an end take their members away for ever.
    """

    seed: int  # of the network's own draws: delays, losses, keys
    config: Config
    links: Links
    clients: tuple[str, ...]
    client_timeout_ns: int
    asks: tuple[Ask, ...]
    storm_ns: int
    faults: tuple[Fault, ...] = ()
    adversaries: tuple[Adversary, ...] = ()
    dishonest: dict[str, str] = {}  # client -> what it does
    processor: bool = False  # whether computing takes time
    state_bytes: int = 0  # of the application's snapshots
    beyond_f: bool = False  # more adversaries than are tolerated: liveness is not judged
    mutant: str = ""  # the planted bug under trial; "" for the protocol as it is

    @property
    def byzantine(self) -> frozenset[int]:
        """Members that do not follow the protocol; they count as faulty all the time."""
        return frozenset(adversary.node for adversary in self.adversaries)

    @property
    def gone(self) -> frozenset[int]:
        """Members that a fault takes away for ever."""
        return frozenset(node for fault in self.faults if fault.duration_ns is None for node in fault.named)

    @property
    def honest(self) -> tuple[int, ...]:
        """Members that follow the protocol, whether they stay or not."""
        return tuple(sorted(set(range(self.config.nodes)) - self.byzantine))

    @property
    def core(self) -> tuple[int, ...]:
        """Honest members that are up and connected in the calm."""
        return tuple(node for node in self.honest if node not in self.gone)

    @property
    def honest_clients(self) -> tuple[str, ...]:
        """Clients whose requests must be answered."""
        return tuple(name for name in self.clients if name not in self.dishonest)

    def broken_promise(self) -> str | None:
        """Why the protocol promises nothing here, or None. What is drawn, and what the shrinker tries, keeps to it."""
        lasting = len(self.byzantine | self.gone)
        if not self.beyond_f and lasting > self.config.faults:
            return f"{lasting} members are Byzantine or gone, and only {self.config.faults} are tolerated"
        for fault in self.faults:
            if fault.duration_ns is not None and fault.at_ns + fault.duration_ns > self.storm_ns:
                return f"a {fault.kind} lasts beyond the storm"
            if any(node >= self.config.nodes for node in fault.named):
                return f"a {fault.kind} names a member that there is not"
        if any(adversary.node >= self.config.nodes for adversary in self.adversaries):
            return "an adversary is no member"
        if not self.honest_clients:
            return "no client is honest"
        return None


class Replay(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a replay file holds."""

    format: str
    version: str  # of the tool that wrote it
    violation: Violation | None  # the first that is expected; None: none
    digest: str  # of the run
    case: Case


def save(path: Path, case: Case, violation: Violation | None, digest: str) -> None:
    """Write a replay file; its folder is made if need be. OSError where that cannot be."""
    replay = Replay(format=FORMAT, version=tradebft_version(), violation=violation, digest=digest, case=case)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = msgspec.json.format(msgspec.json.encode(replay), indent=1)
    path.write_bytes(text + b"\n")


def load(path: Path) -> Replay:
    """Read a replay file. CaseError, in one line, for anything that is none."""
    try:
        replay = msgspec.json.decode(path.read_bytes(), type=Replay)
    except OSError as error:
        raise CaseError(f"{path}: {error.strerror or error}") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise CaseError(f"{path}: not a replay file: {' '.join(str(error).split())}") from None
    if replay.format != FORMAT:
        raise CaseError(f"{path}: format {replay.format!r}, expected {FORMAT!r}")
    return replay
