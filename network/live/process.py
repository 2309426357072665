"""Members in processes of their own on this machine, over MQTT: for runs, for chaos, for measuring.

A child is told what to be on its first line of standard input, says "ready", and then answers one line with one line:
``stands`` (its height, root and view) and ``stop`` (all that it did, `Seen`; then it ends). When its parent goes, its
input ends, and so does it. A member that serves for longer than its parent is `tradebft node`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from tradebft.chain.codec import decode, encode
from tradebft.chain.crypto import Ed25519Signer, Signer
from tradebft.network.live.assembly import member_of
from tradebft.network.live.broker import EmbeddedBroker
from tradebft.network.live.bus import LiveBus
from tradebft.network.live.clock import Clock
from tradebft.network.live.founding import Founding
from tradebft.network.live.member import Member
from tradebft.network.live.mqtt import MqttBus, Tls
from tradebft.network.live.observed import Observer, Seen

START_SECONDS: Final = 30.0
ANSWER_SECONDS: Final = 60.0
LINE_BYTES_MAX: Final = 1 << 30  # of what a member did in a long run
_FOUNDING_BYTES_MAX: Final = 1 << 28


class MemberError(Exception):
    """A member's process did not start, or ended. The message is one line."""


class Task(msgspec.Struct, frozen=True):
    """What a child is to be."""

    founding: str  # a file
    member: int
    key: str  # a file
    store: str
    brokers: list[str]
    ca: str
    origin_ns: int


class Stand(msgspec.Struct, frozen=True):
    """Where a member is."""

    height: int
    root: bytes
    view: int


# --- the parent's side ---


class Processes:
    """All members of *founding*, a process each, with what they keep in *folder*. Without *brokers* one comes along.

    *before*: words before the command of a member, such as those that put it into a network namespace.
    """

    def __init__(
        self,
        founding: Founding,
        signers: Mapping[Any, Signer],
        folder: Path,
        clock: Clock,
        brokers: Sequence[str] = (),
        ca: Path | None = None,
        before: Callable[[int], Sequence[str]] = lambda index: (),
    ) -> None:
        self.founding, self._signers, self.folder, self._clock = founding, signers, folder, clock
        self.own_broker = None if brokers else EmbeddedBroker()
        self.brokers = list(brokers)
        self._ca, self._before = ca, before
        self.members: dict[int, _Child] = {}

    async def start(self) -> None:
        """The broker, if it is our own, and every member."""
        if self.own_broker is not None:
            await _to_the_end(self.own_broker.start())
            self.brokers = [self.own_broker.url]
        else:
            await self._probe()
        (self.folder / "founding").write_bytes(encode(self.founding))
        for index in range(self.founding.config.nodes):
            signer = self._signers[index]
            assert isinstance(signer, Ed25519Signer)
            signer.save(self._key(index))
        await _to_the_end(*map(self.start_member, range(self.founding.config.nodes)))

    async def _probe(self) -> None:
        """MemberError where no broker can be reached: members would wait for it without a word."""
        bus = MqttBus(self.brokers, tls=Tls(self._ca))
        await bus.open("probe", ("tradebft/probe",), lambda topic, data: None)
        connected, why = bus.connected, [name for name in bus.counts if name.startswith("not connected")]
        await bus.close()
        if not connected:
            raise MemberError(f"{', '.join(self.brokers)}: {' and '.join(why) or 'no answer'}")

    async def start_member(self, index: int) -> None:
        """Member *index* comes up, with what is on its disk."""
        task = Task(
            founding=str(self.folder / "founding"),
            member=index,
            key=str(self._key(index)),
            store=str(self.store(index)),
            brokers=self.brokers,
            ca=str(self._ca or ""),
            origin_ns=self._clock.origin_ns,
        )
        self.members[index] = await _Child.started(task, self._before(index))

    def store(self, index: int) -> Path:
        """Where member *index* keeps what must survive."""
        return self.folder / f"replica.{index}.db"

    def _key(self, index: int) -> Path:
        return self.folder / f"replica.{index}.key"

    def bus(self) -> LiveBus:
        """A connection for a client."""
        return MqttBus(self.brokers, tls=Tls(self._ca))

    def signal(self, index: int, number: signal.Signals) -> None:
        """Send member *index* a signal: SIGKILL, SIGSTOP, SIGCONT."""
        self.members[index].signal(number)

    async def gone(self, index: int) -> None:
        """Wait until the process of member *index*, which was killed, is no more."""
        await self.members.pop(index).gone()

    @property
    def failed(self) -> str:
        """What ended a member that should still run; empty if nothing did."""
        return next((why for child in self.members.values() if (why := child.ended)), "")

    async def stands(self) -> dict[int, Stand]:
        """Where every member that is up is."""
        children = list(self.members.items())
        answers = await asyncio.gather(*(child.ask("stands") for _, child in children))
        return {
            index: msgspec.json.decode(line, type=Stand)
            for (index, _), line in zip(children, answers, strict=True)
        }

    async def level(self, seconds: float) -> None:
        """Return when all members stand at one height, or after so long."""
        deadline = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < deadline and not self.failed:
            if len({(stand.height, stand.root) for stand in (await self.stands()).values()}) <= 1:
                return
            await asyncio.sleep(0.05)

    async def stop(self) -> list[Seen]:
        """Every member leaves; what each did."""
        seen: list[Seen] = []
        for _, child in sorted(self.members.items()):
            with contextlib.suppress(MemberError, TimeoutError):
                seen.append(msgspec.json.decode(await child.ask("stop"), type=Seen))
            await child.end()
        self.members.clear()
        if self.own_broker is not None:
            await self.own_broker.stop()
        return seen


async def _to_the_end(*work: Coroutine[Any, Any, None]) -> None:
    """All of *work* at once. When this is cancelled, it is finished nevertheless: a process that was half started
    could not be ended in order."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.gather(*map(asyncio.shield, tasks))
    finally:
        await asyncio.gather(*tasks, return_exceptions=True)


class _Child:
    """One member's process, seen from outside."""

    def __init__(self, index: int, process: asyncio.subprocess.Process) -> None:
        self._index, self._process = index, process
        self._one_at_a_time = asyncio.Lock()
        self._last = ""  # of what it said on its standard error
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def started(cls, task: Task, before: Sequence[str]) -> _Child:
        """A child that has joined the bus. MemberError where it does not come to that."""
        process = await asyncio.create_subprocess_exec(
            *before, sys.executable, "-m", __name__,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            limit=LINE_BYTES_MAX, start_new_session=True,
        )  # fmt: skip
        child = cls(task.member, process)
        try:
            line = await child.ask(msgspec.json.encode(task).decode(), START_SECONDS)
            if line.strip() != b"ready":
                raise MemberError(f"replica {task.member}: {line[:200]!r} where it should say ready")
        except BaseException:
            await child.end()
            raise
        return child

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> str:
        """Why it is no more; empty while it runs."""
        code = self._process.returncode
        if code is None:
            return ""
        return f"replica {self._index} ended with code {code}" + (f": {self._last}" if self._last else "")

    async def ask(self, line: str, seconds: float = ANSWER_SECONDS) -> bytes:
        """Its answer to *line*."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        async with self._one_at_a_time, asyncio.timeout(seconds):
            with contextlib.suppress(ConnectionError):
                stdin.write(line.encode() + b"\n")
                await stdin.drain()
            answer = await stdout.readline()
        if not answer:
            await self.gone()
            raise MemberError(self.ended)
        return answer

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def gone(self) -> None:
        """Until the process is no more."""
        await self._process.wait()
        await asyncio.gather(self._listening, return_exceptions=True)
        self._close()

    async def end(self) -> None:
        """It has said what it had to say, or never will."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await self.gone()
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self.gone()

    def _close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process._transport.close()  # type: ignore[attr-defined]  # pipes of a killed process stay open else

    async def _listen(self) -> None:
        stream = self._process.stderr
        assert stream is not None
        while line := await stream.readline():
            self._last = line.decode(errors="replace").strip()[:300] or self._last


# --- the child's side ---


async def _serve(task: Task, lines: asyncio.StreamReader) -> None:
    founding = decode(Path(task.founding).read_bytes(), Founding, limit=_FOUNDING_BYTES_MAX)
    signer = Ed25519Signer.load(task.member, Path(task.key))
    bus = MqttBus(task.brokers, tls=Tls(Path(task.ca) if task.ca else None))
    clock = Clock(task.origin_ns)
    member, observer = member_of(founding, task.member, signer, Path(task.store), bus, clock)
    await member.start()
    _say(b"ready")
    orders = asyncio.create_task(_obey(member, observer, lines))
    life = asyncio.create_task(member.wait())
    try:
        await asyncio.wait((orders, life), return_when=asyncio.FIRST_COMPLETED)
        if life.done():
            life.result()
    finally:
        orders.cancel()
        life.cancel()
        await member.stop()


async def _obey(member: Member, observer: Observer, lines: asyncio.StreamReader) -> None:
    while order := (await lines.readline()).strip():
        if order == b"stands":
            view = int(getattr(member.replica, "view", 0))
            _say(msgspec.json.encode(Stand(member.height, member.root, view)))
        else:
            _say(msgspec.json.encode(observer.seen()))
            return


def _say(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


async def _main() -> None:
    lines = asyncio.StreamReader(limit=1 << 20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    line = await lines.readline()
    if line:
        await _serve(msgspec.json.decode(line, type=Task), lines)


def main() -> None:
    """The child process. What goes wrong is one line on its standard error."""
    try:
        asyncio.run(_main())
    except Exception as error:
        print(f"{type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        os._exit(1)


if __name__ == "__main__":
    main()
