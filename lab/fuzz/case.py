"""A case: everything that one trial of the fuzzer depends on, and the replay file that it travels in.

A replay file is JSON: the case in full (not its seed alone, so that a shrunk case is a file like any other), the
violation that is expected, the digest of the run, and the version of the tool that wrote it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from tradebft.consensus.interface import Config
from tradebft.consensus.invariants import Violation
from tradebft.consensus.membership import sizes
from tradebft.lab.metrics import tradebft_version
from tradebft.network.faults import Fault

FORMAT: Final = "tradebft-replay-1"
FOR_EVER: Final = None
GOVERNOR: Final = "governor"  # the client that submits changes of the members


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


class MemberChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """At *at_ns* the governor submits who the replicas shall be: (index, which of its keys: 0 is its first) each."""

    at_ns: int
    members: tuple[tuple[int, int], ...]


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
    state_bytes: int = 0  # of the diary's snapshots
    application: Literal["diary", "ledger"] = "diary"  # what executes the requests
    spare: int = 0  # members beyond those of the start, that a change may admit
    changes: tuple[MemberChange, ...] = ()
    beyond_f: bool = False  # more adversaries than are tolerated: liveness is not judged
    mutant: str = ""  # the planted bug under trial; "" for the protocol as it is

    @property
    def byzantine(self) -> frozenset[int]:
        """Members that do not follow the protocol; they count as faulty all the time."""
        return frozenset(adversary.node for adversary in self.adversaries)

    @property
    def everybody(self) -> int:
        """How many members there are, those included that wait to be admitted."""
        return self.config.nodes + self.spare

    @property
    def gone(self) -> frozenset[int]:
        """Members that a fault takes away for ever."""
        return frozenset(node for fault in self.faults if fault.duration_ns is None for node in fault.named)

    @property
    def honest(self) -> tuple[int, ...]:
        """Members that follow the protocol, whether they stay or not."""
        return tuple(sorted(set(range(self.everybody)) - self.byzantine))

    @property
    def core(self) -> tuple[int, ...]:
        """Honest members that are up and connected in the calm, whether they belong to the replicas then or not."""
        return tuple(node for node in self.honest if node not in self.gone)

    @property
    def honest_clients(self) -> tuple[str, ...]:
        """Clients whose requests must be answered."""
        asking = tuple(name for name in self.clients if name not in self.dishonest)
        return (*asking, GOVERNOR) if self.changes and asking else asking

    def broken_promise(self) -> str | None:
        """Why the protocol promises nothing here, or None. What is drawn, and what the shrinker tries, keeps to it."""
        lasting = self.byzantine | self.gone
        memberships = [range(self.config.nodes), *([i for i, _ in c.members] for c in self.changes)]
        for members in () if self.beyond_f else memberships:
            bad, tolerated = len(lasting & set(members)), sizes(len(members))[0]
            if bad > tolerated:
                return f"{bad} members are Byzantine or gone, and only {tolerated} are tolerated"
            if any(index >= self.everybody for index in members):
                return "a change admits a member that there is not"
        for fault in self.faults:
            if fault.duration_ns is not None and fault.at_ns + fault.duration_ns > self.storm_ns:
                return f"a {fault.kind} lasts beyond the storm"
            if any(node >= self.everybody for node in fault.named):
                return f"a {fault.kind} names a member that there is not"
        if any(adversary.node >= self.everybody for adversary in self.adversaries):
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
