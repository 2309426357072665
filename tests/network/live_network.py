"""A network of real members in one process: real signatures, real disks, a local hub in place of a broker."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tradebft.chain.crypto import Ed25519Signer, make_identities
from tradebft.chain.store import Store
from tradebft.consensus.client import Client
from tradebft.consensus.interface import Config
from tradebft.consensus.pbft import Replica
from tradebft.network.live.client import LiveClient
from tradebft.network.live.clock import Clock
from tradebft.network.live.envelope import chain_of, endpoint
from tradebft.network.live.founding import Founding
from tradebft.network.live.kept import Kept
from tradebft.network.live.local import LocalHub
from tradebft.network.live.member import Member
from tradebft.network.live.port import Port

CLIENTS = ("bank", "mill")


class LiveNetwork:
    """*n* members whose stores lie in *folder*, and two clients. `start` and `stop` them one by one."""

    def __init__(self, folder: Path, n: int = 4, hub: LocalHub | None = None, **config: int) -> None:
        self.folder, self.hub = folder, hub or LocalHub()
        settings = {
            "batch_size": 20,
            "checkpoint_interval": 8,
            "log_window": 16,
            "client_window": 256,
            "view_change_timeout_ns": 500_000_000,
            **config,
        }
        self.config = Config(n, chain_id=b"live", **settings)
        self.signers: dict[int | str, Ed25519Signer]
        self.signers, self.keyring = make_identities([*range(n), *CLIENTS], "real", 1)  # type: ignore[assignment]
        keys = tuple((self.keyring.public_key(i),) for i in range(n))
        self.founding = Founding(
            self.config, keys, tuple((name, self.keyring.public_key(name)) for name in CLIENTS)
        )
        self.clock = Clock()
        self.boots = 0
        self.members: dict[int, Member] = {}
        self.clients: dict[str, LiveClient] = {}

    def _port(self, address: int | str) -> Port:
        self.boots += 1
        chain = chain_of(self.founding.identity)
        name = endpoint(address)
        return Port(self.hub.bus(), "net", chain, name, self.signers[address], self.keyring, self.boots)

    def store(self, i: int) -> Path:
        return self.folder / f"replica.{i}.db"

    async def start(self, *members: int) -> None:
        """These members come up, with what is on their disks."""
        for i in members:
            store = Store.open(self.store(i), self.founding.identity)
            self.founding.write_to(store)
            replica = Replica(i, self.config, self.signers[i], self.keyring)
            self.members[i] = Member(
                replica, self._port(i), Kept(store), self.founding.application(), self.clock
            )
            await self.members[i].start()

    async def stop(self, *members: int) -> None:
        """These members leave in order."""
        for i in members:
            await self.members.pop(i).stop()

    async def client(self, name: str = "bank") -> LiveClient:
        """A client, joined."""
        client = Client(name, self.config, self.signers[name], self.keyring, 1_000_000_000)
        self.clients[name] = LiveClient(client, self._port(name), self.clock)
        await self.clients[name].start()
        return self.clients[name]

    async def level(self, seconds: float = 20) -> int:
        """Wait until all members that are up stand at one height and root; the height."""
        async with asyncio.timeout(seconds):
            while len({(m.height, m.root) for m in self.members.values()}) > 1:
                await asyncio.sleep(0.02)
        return next(iter(self.members.values())).height

    async def close(self) -> None:
        """Everybody leaves."""
        for client in self.clients.values():
            await client.stop()
        await self.stop(*list(self.members))
