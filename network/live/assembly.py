"""Putting a real network together: one member from what it needs, or all of them in one process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec
from tradebft.chain.crypto import Keyring, Signer
from tradebft.chain.store import Store
from tradebft.consensus.client import Client
from tradebft.consensus.interface import Committed, Executed
from tradebft.consensus.pbft import Replica
from tradebft.network.live.bus import LiveBus
from tradebft.network.live.client import LiveClient
from tradebft.network.live.clock import Clock
from tradebft.network.live.envelope import chain_of, endpoint
from tradebft.network.live.founding import Founding
from tradebft.network.live.kept import Kept
from tradebft.network.live.local import LocalHub
from tradebft.network.live.member import Member
from tradebft.network.live.observed import Observer, Seen
from tradebft.network.live.port import Port

NET = "tradebft"


def door(founding: Founding, bus: LiveBus, address: int | str, signer: Signer, keyring: Keyring) -> Port:
    """The port of a replica or client on *bus*, for a new start."""
    chain = chain_of(founding.identity)
    return Port(bus, NET, chain, endpoint(address), signer, keyring, time.time_ns())


def member_with(
    founding: Founding,
    index: int,
    signer: Signer,
    store: Path,
    bus: LiveBus,
    clock: Clock,
    observe: Callable[[Committed, Executed], None],
    archive: bool = False,
) -> Member:
    """Replica *index* with its disk at *store*, not yet started. *observe* is told of every batch; *archive*: see
    `Kept`."""
    keyring = founding.keyring()
    kept = Store.open(store, founding.identity)
    try:
        founding.write_to(kept)
        return Member(
            Replica(index, founding.config, signer, keyring),
            door(founding, bus, index, signer, keyring),
            Kept(kept, archive),
            founding.application(),
            clock,
            observe,
        )
    except BaseException:
        kept.close()
        raise


def member_of(
    founding: Founding, index: int, signer: Signer, store: Path, bus: LiveBus, clock: Clock
) -> tuple[Member, Observer]:
    """Replica *index* for a run, and who writes down what it does."""
    observer = Observer(clock)
    member = member_with(founding, index, signer, store, bus, clock, observer.committed)
    observer.attach(member)
    return member, observer


def client_of(
    founding: Founding, name: str, signer: Signer, bus: LiveBus, clock: Clock, timeout_ns: int
) -> LiveClient:
    """The client *name*, not yet started."""
    keyring = founding.keyring()
    client = Client(name, founding.config, signer, keyring, timeout_ns)
    return LiveClient(client, door(founding, bus, name, signer, keyring), clock)


class Gathering(Protocol):
    """All members of one network, wherever they run."""

    async def start(self) -> None:
        """Every member comes up."""
        ...

    def bus(self) -> LiveBus:
        """A connection for a client."""
        ...

    @property
    def failed(self) -> str:
        """What ended a member that should still run; empty if nothing did."""
        ...

    async def level(self, seconds: float) -> None:
        """Return when all members stand at one height, or after so long."""
        ...

    async def stop(self) -> list[Seen]:
        """Every member leaves; what each did."""
        ...


class InProcess:
    """All members in this process, on a `LocalHub`, with their stores in *folder*."""

    def __init__(
        self, founding: Founding, signers: Mapping[Any, Signer], folder: Path, hub: LocalHub, clock: Clock
    ) -> None:
        self._founding, self._signers, self._folder = founding, signers, folder
        self._hub, self._clock = hub, clock
        self._members: list[tuple[Member, Observer]] = []

    async def start(self) -> None:
        """Every member comes up."""
        for index in range(self._founding.config.nodes):
            made = member_of(
                self._founding,
                index,
                self._signers[index],
                self._folder / f"replica.{index}.db",
                self._hub.bus(),
                self._clock,
            )
            self._members.append(made)
            await made[0].start()

    def bus(self) -> LiveBus:
        """A connection for a client."""
        return self._hub.bus()

    @property
    def failed(self) -> str:
        """What ended a member that should still run; empty if nothing did."""
        for member, _ in self._members:
            if (why := member.failure) is not None:
                return f"replica {member.replica.me}: {why!r}"
        return ""

    async def level(self, seconds: float) -> None:
        """Return when all members stand at one height, or after so long."""
        waited = 0.0
        while len({member.height for member, _ in self._members}) > 1 and waited < seconds:
            await asyncio.sleep(0.01)
            waited += 0.01

    async def stop(self) -> list[Seen]:
        """Every member leaves; what each did. Processor time is that of the whole process, shared out evenly."""
        share = max(1, len(self._members))
        seen = [
            msgspec.structs.replace(one, cpu_seconds=one.cpu_seconds / share)
            for one in (observer.seen() for _, observer in self._members)
        ]
        for member, _ in self._members:
            await member.stop()
        self._members.clear()
        return seen
