"""One replica as a service: from its file of settings to SIGTERM.

Before it joins, its store is checked: what is damaged there and peers can give again is thrown away and fetched anew; a
store that has lost what only this member knew (its votes) is refused, since the member might contradict itself. Then it
runs until it is told to stop, or until its disk fails it.
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Final

from tradebft.chain.codec import CodecError, decode
from tradebft.chain.crypto import Ed25519Signer, MemberId
from tradebft.chain.store import StoreError
from tradebft.chain.store_rescue import rescue
from tradebft.network.live.assembly import member_with
from tradebft.network.live.clock import Clock
from tradebft.network.live.founding import Founding
from tradebft.network.live.member import Member
from tradebft.service import log
from tradebft.service.errors import ServiceError
from tradebft.service.log import LOG
from tradebft.service.settings import NodeSettings, bus_of, load
from tradebft.service.watch import Server, Watch

FOUNDING_BYTES_MAX: Final = 1 << 28
BEAT_SECONDS: Final = 1.0


def founding_at(path: Path) -> Founding:
    """The founding that *path* holds; ServiceError where it holds none."""
    try:
        return decode(path.read_bytes(), Founding, limit=FOUNDING_BYTES_MAX)
    except OSError as error:
        raise ServiceError(f"{path}: cannot be read: {error.strerror or error}") from None
    except CodecError as error:
        raise ServiceError(f"{path}: expected a founding file: {error}") from None


def key_in(path: Path, member: MemberId) -> Ed25519Signer:
    """The key in *path*, for *member*; ServiceError where it cannot be read, or others could read it."""
    try:
        return Ed25519Signer.load(member, path)
    except OSError as error:
        raise ServiceError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise ServiceError(f"{path}: {str(error).removeprefix(str(path)).strip()}") from None


def key_at(path: Path, member: MemberId, public: bytes) -> Ed25519Signer:
    """The key of *member*; ServiceError where `key_in` finds none, or another one than the founding names."""
    signer = key_in(path, member)
    if signer.public_key != public:
        raise ServiceError(
            f"{path}: expected the key of {member} ({public.hex()[:16]}...), found another one"
        )
    return signer


class Node:
    """What a file of settings describes, read and checked, and not yet running. ServiceError where it is wrong."""

    def __init__(self, path: Path) -> None:
        self.settings = settings = load(path, NodeSettings)
        self.founding = founding_at(settings.founding)
        if settings.replica >= len(self.founding.replicas):
            last = len(self.founding.replicas) - 1
            raise ServiceError(f"{path}: replica: expected at most {last}; found {settings.replica}")
        self.signer = key_at(settings.key, settings.replica, self.founding.replicas[settings.replica][0])
        self.bus = bus_of(settings.broker, path)

    async def run(self, ready: asyncio.Event | None = None) -> None:
        """Serve until SIGTERM or SIGINT. StoreError where the disk fails; ServiceError for a port that is taken."""
        settings = self.settings
        log.start(settings.log, replica=settings.replica)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        clock = Clock()
        watch = Watch(clock)
        member: Member | None = None
        server = Server(watch, settings.http, lambda: member) if settings.http.port else None
        try:
            self._mend()
            member = member_with(
                self.founding, settings.replica, self.signer, settings.store, self.bus, clock,
                watch.committed, settings.archive,
            )  # fmt: skip
            await member.start()
            watch.attach(member)
            LOG.info("started", extra={"height": member.height, "network": self.founding.identity.hex()})
            if ready is not None:
                ready.set()
            await self._serve(member, watch, stop)
        finally:
            if member is not None:
                await member.stop()
                LOG.info("stopped", extra={"height": member.height})
            if server is not None:
                server.close()

    def _mend(self) -> None:
        """Throw away what is damaged on the disk and peers have too."""
        path = self.settings.store
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            return
        for damage in rescue(path, self.founding.identity):
            LOG.warning("damaged, to be fetched again", extra={"table": damage.table, "why": damage.why})

    async def _serve(self, member: Member, watch: Watch, stop: asyncio.Event) -> None:
        news = _News(member)
        life = asyncio.create_task(member.wait())
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                await asyncio.wait(
                    {life, stopping}, timeout=BEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                watch.beat()
                news.tell()
                if life.done():
                    life.result()
                    raise StoreError(f"{self.settings.store}: the member ended")
        finally:
            life.cancel()
            stopping.cancel()
            await asyncio.gather(life, stopping, return_exceptions=True)


class _News:
    """What changed since the last look, for the log."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._brokers = self._view = -1
        self._taken_over = 0
        self._evidence = 0

    def tell(self) -> None:
        member = self._member
        brokers = int(getattr(member.port.bus, "connected", 1))
        if brokers != self._brokers:
            self._brokers = brokers
            (LOG.info if brokers else LOG.warning)("brokers", extra={"connected": brokers})
        view = int(getattr(member.replica, "view", 0))
        if view != self._view:
            self._view = view
            LOG.info("view", extra={"view": view, "height": member.height})
        if (taken_over := member.counts["snapshots taken over"]) != self._taken_over:
            self._taken_over = taken_over
            LOG.info("snapshot taken over", extra={"height": member.height})
        if (count := len(member.evidence)) > self._evidence:
            for one in list(member.evidence)[self._evidence : count]:
                LOG.warning("evidence", extra={"culprit": one.culprit, "what": one.what})
            self._evidence = count
