"""A broker that comes with the packages: amqtt in a process of its own, on this machine only.

For trying things out and for networks on one machine. It knows no accounts and no encryption; what a consortium puts
between its members is Mosquitto with the configuration of `mosquitto`.

    python -m tradebft.network.live.broker PORT       says "ready" once it listens; ends with its standard input
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from types import TracebackType
from typing import Any, Final

START_SECONDS: Final = 20.0
READY: Final = b"ready"


class BrokerError(Exception):
    """No broker could be started. The message is one line."""


def free_port() -> int:
    """A TCP port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class EmbeddedBroker:
    """``async with EmbeddedBroker() as broker:`` a broker at ``broker.url`` for as long as the context lasts."""

    def __init__(self, port: int = 0) -> None:
        self.port = port or free_port()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of its process; 0 while there is none."""
        return 0 if self._process is None else self._process.pid

    async def start(self) -> None:
        """Returns once it listens; BrokerError where it does not."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", __name__, str(self.port),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        line = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                line = await self._process.stdout.readline()
        if line.strip() != READY:
            await self.stop()
            raise BrokerError(f"no broker could be started on port {self.port} of this machine")

    async def stop(self, kill: bool = False) -> None:
        """End it; *kill*: without a word, as a crash would."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill() if kill else process.terminate()
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await process.communicate()
        except TimeoutError:
            process.kill()
            await process.communicate()

    async def __aenter__(self) -> EmbeddedBroker:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


async def _serve(port: int) -> None:
    from amqtt.broker import Broker  # slow to import, and needed in this process only

    configuration: dict[str, Any] = {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }
    broker = Broker(configuration)
    await broker.start()
    print(READY.decode(), flush=True)
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    gone = loop.run_in_executor(None, sys.stdin.buffer.read)  # ends when whoever started it is gone
    waiting = asyncio.create_task(over.wait())
    await asyncio.wait((waiting, gone), return_when=asyncio.FIRST_COMPLETED)
    await broker.shutdown()


def main() -> None:
    """The child process."""
    logging.disable(logging.CRITICAL)
    asyncio.run(_serve(int(sys.argv[1])))
    sys.stdout.flush()
    import os

    os._exit(0)  # a thread may still wait for the standard input


if __name__ == "__main__":
    main()
