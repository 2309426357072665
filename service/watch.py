"""How a node is, for those who look after it: its health and, for Prometheus, its counts.

The server has a thread of its own, so it also answers when the node's loop hangs, and says so. It only reads what the
node counts anyway.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import msgspec
from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from tradebft.chain.codec import encode
from tradebft.consensus.interface import Committed, Executed
from tradebft.consensus.membership import EpochProof, epoch_of, first_view
from tradebft.network.live.clock import Clock
from tradebft.network.live.member import Member
from tradebft.service.errors import ServiceError
from tradebft.service.settings import HttpSettings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

HANGS_SECONDS: Final = 10.0  # without a turn of the loop
ANSWER_SECONDS: Final = 10.0
_BUCKETS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Watch:
    """What is known of one node. `attach` a member, call `beat` from its loop, hand `committed` to it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._member: Member | None = None
        self._beat = time.monotonic()
        self._last_block = 0.0  # Unix time
        self.transactions = 0
        self.blocks = 0
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        self._latency = Histogram(
            "tradebft_block_seconds",
            "From the time that the primary proposed to the execution here (the clocks of both count).",
            registry=self.registry,
            buckets=_BUCKETS,
        )

    def attach(self, member: Member) -> None:
        """The node is up."""
        self._member = member

    def beat(self) -> None:
        """The loop turns."""
        self._beat = time.monotonic()

    def committed(self, effect: Committed, executed: Executed) -> None:
        """A batch was executed."""
        self.blocks += 1
        self.transactions += len(effect.fresh)
        self._last_block = time.time()
        self._latency.observe(max(0, self._clock.now() - effect.decided.batch.timestamp_ns) / 1e9)

    # --- health ---

    def health(self) -> dict[str, Any]:
        """Where the node stands; ``status`` is *ok* or says in a word what is the matter."""
        member = self._member
        if member is None:
            return {"status": "starting"}
        view = int(getattr(member.replica, "view", 0))
        return {
            "status": self._status(member),
            "replica": member.replica.me,
            "height": member.height,
            "root": member.root.hex(),
            "epoch": epoch_of(view),
            "view": view - first_view(epoch_of(view)),
            "brokers": _brokers(member),
            "seconds_since_block": round(time.time() - self._last_block, 3) if self._last_block else None,
            "evidence": len(member.evidence),
        }

    def _status(self, member: Member) -> str:
        if member.failure is not None:
            return "ended"
        if time.monotonic() - self._beat > HANGS_SECONDS:
            return "hangs"
        return "ok" if _brokers(member) else "no broker"

    # --- metrics ---

    def collect(self) -> Iterator[Metric]:
        """For Prometheus: called at every scrape."""
        member = self._member
        if member is None:
            return
        health = self.health()
        for name, help in _GAUGES.items():
            yield GaugeMetricFamily(f"tradebft_{name}", help, value=float(health[name]))
        yield GaugeMetricFamily("tradebft_healthy", "1 if all is well", value=float(health["status"] == "ok"))
        yield CounterMetricFamily("tradebft_transactions", "Executed since the start", self.transactions)
        yield CounterMetricFamily("tradebft_blocks", "Executed since the start", self.blocks)
        yield CounterMetricFamily("tradebft_sent_bytes", "Of messages, a receiver", member.port.sent_bytes)
        counts = {
            ("sent", "Messages, a receiver", "kind"): dict(member.port.sent),
            ("inputs", "Taken by the replica, and dropped before that", "kind"): dict(member.counts),
            ("ignored", "Messages that came to nothing", "reason"): dict(member.ignored),
            ("bus", "Envelopes: what became of them", "what"): dict(member.port.bus.counts),
        }
        for (name, help, label), found in counts.items():
            family = CounterMetricFamily(f"tradebft_{name}", help, labels=[label])
            for what, count in found.items():
                family.add_metric([what], count)
            yield family


_GAUGES: Final = {
    "height": "The last block that was executed",
    "view": "The view within the epoch",
    "epoch": "How often the members changed",
    "brokers": "Connections to brokers",
    "evidence": "Proofs of misbehaviour that are kept",
}


def _brokers(member: Member) -> int:
    return int(getattr(member.port.bus, "connected", 1))


# --- serving ---


class Server:
    """Answers at *settings*: ``/health``, ``/metrics``, and ``/blocks/N`` with the proof of what was decided there."""

    def __init__(self, watch: Watch, settings: HttpSettings, member: Callable[[], Member | None]) -> None:
        self._watch, self._member = watch, member
        self._loop = asyncio.get_running_loop()
        self._metrics = make_wsgi_app(watch.registry)
        try:
            self._server = make_server(settings.host, settings.port, self._answer, _Threads, _Quiet)
        except OSError as error:
            where = f"{settings.host}:{settings.port}"
            raise ServiceError(f"http: cannot listen at {where}: {error.strerror or error}") from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_port)

    def close(self) -> None:
        """Answer nobody any more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ: WSGIEnvironment, start: StartResponse) -> Any:
        path = environ.get("PATH_INFO", "/")
        if path == "/metrics":
            return self._metrics(environ, start)
        if path == "/health":
            health = self._watch.health()
            ok = health["status"] == "ok"
            return _json(start, HTTPStatus.OK if ok else HTTPStatus.SERVICE_UNAVAILABLE, health)
        head, _, number = path.rpartition("/")
        if head == "/blocks" and number.isdecimal() and len(number) < 19:
            found = self._block(int(number))
            status = HTTPStatus.NOT_FOUND if "error" in found else HTTPStatus.OK
            return _json(start, status, found)
        expected = {"error": "expected /health, /metrics or /blocks/NUMBER"}
        return _json(start, HTTPStatus.NOT_FOUND, expected)

    def _block(self, seq: int) -> dict[str, Any]:
        """Read in the node's own thread: its store belongs to that."""
        try:
            reading = asyncio.run_coroutine_threadsafe(_kept(self._member(), seq), self._loop)
            return reading.result(ANSWER_SECONDS)
        except (TimeoutError, RuntimeError):
            return {"error": "the node does not answer now"}


async def _kept(member: Member | None, seq: int) -> dict[str, Any]:
    decided = None if member is None else member.disk.block(seq)
    if member is None or decided is None:
        return {"error": f"block {seq} is not kept here"}
    epochs = [encode(record).hex() for record in member.disk.records() if isinstance(record, EpochProof)]
    return {"seq": seq, "decided": encode(decided).hex(), "epochs": epochs}


class _Threads(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    timeout = 10  # a connection that says nothing holds a thread no longer

    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes are no news."""


def _json(start: StartResponse, status: HTTPStatus, value: dict[str, Any]) -> list[bytes]:
    data = msgspec.json.encode(value)
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(data)))]
    start(f"{status.value} {status.phrase}", headers)
    return [data]
