"""Plain-text tests: a command, a line of dashes, and what the replicas did. ``--rewrite`` records what they do now.

A command is a method ``do_<verb>``; its docstring is the example. The wire is first in, first out and moves only when
told to; timers run out only when told to. Which kinds of line are shown, beside messages, commits and evidence, is the
transcript's choice (``show``).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from byzantine_script import Byzantine
from replicas import Network
from tradebft.chain.crypto import QuorumCertificate
from tradebft.consensus.client import Client
from tradebft.consensus.interface import (
    Answered,
    Broadcast,
    CancelTimer,
    Committed,
    Evidence,
    Ignored,
    Install,
    Installed,
    KeepSnapshot,
    Persist,
    Send,
    SendBlocks,
    SendChunk,
    SetTimer,
    Submit,
    TimerFired,
)
from tradebft.consensus.invariants import Checker
from tradebft.consensus.messages import (
    NULL_DIGEST,
    Batch,
    Checkpoint,
    Commit,
    Fetch,
    FetchChunk,
    FetchReply,
    NewView,
    Prepare,
    Prepared,
    PrePrepare,
    Reply,
    Request,
    SnapshotHead,
    Status,
    ViewChange,
    authentic,
    sender_of,
)

DIRECTIVE = re.compile(r"(?P<before>(?:#[^\n]*\n|\n)*)(?P<command>[^\n#]+)\n----\n(?P<output>(?:[^\n]+\n)*)")
SETTINGS = {
    "K": "checkpoint_interval", "L": "log_window", "snapshots": "snapshot_interval",
    "batch": "batch_size", "window": "window",
}  # fmt: skip
ASIDE = ("status", "reply", "ignored", "persist", "view-change", "batch", "retry", "status timer", "chunk")
MS = 1_000_000


class Traced(Network):
    """A network that writes down what its replicas and clients ask for, as (kind of line, line)."""

    def __init__(self, n: int, **config: int) -> None:
        self.lines: list[tuple[str, str]] = []
        self.names = {NULL_DIGEST: "null"}
        self.changes: dict[tuple[int, int], ViewChange] = {}  # by (sender, view): the last one
        self.clients: dict[str, Client] = {}
        super().__init__(n, **config)
        self.checker = Checker(self.config, self.keyring, range(n))
        self.cut: set[int] = set()
        self.watch = self._write

    def _write(self, me: int | str, effect: Any) -> None:
        say = self.lines.append
        match effect:
            case Broadcast(message):
                say((kind_of(message), f"{me}: {self.describe(message)}"))
                if isinstance(me, int):
                    self.checker.sent(self.now, me, message)
                if isinstance(message, ViewChange):
                    self.changes[message.replica, message.view] = message
            case Send(to, message):
                say((kind_of(message), f"{me} -> {to}: {self.describe(message)}"))
            case SendBlocks(to, first, last):
                say(("main", f"{me} -> {to}: blocks s{first}..s{last}"))
            case SendChunk(to, seq, index):
                say(("chunk", f"{me} -> {to}: chunk {index} of the snapshot at s{seq}"))
            case KeepSnapshot(manifest):
                say(("main", f"{me}: keeps a snapshot at s{manifest.seq}, {len(manifest.chunks)} chunks"))
            case Install(manifest):
                say(("main", f"{me}: INSTALLS the snapshot at s{manifest.seq}"))
            case SetTimer(name, delay_ns):
                say(
                    (
                        "status timer" if name == "status" else name,
                        f"{me}: {name} in {delay_ns // MS} ms",
                    )
                )
            case CancelTimer(name):
                say((name, f"{me}: stops {name}"))
            case Persist(record):
                say(("persist", f"{me}: persists {self.describe(record)}"))
            case Committed(seq, decided, fresh):
                again = len(decided.batch.requests) - len(fresh)
                note = f", {again} of its requests done before" if again else ""
                say(("main", f"{me}: COMMITTED s{seq} {self.name(decided.batch.digest)}{note}"))
                if isinstance(me, int):
                    self.checker.committed(self.now, me, effect)
            case Answered(_, sequence, _, seq):
                say(("main", f"{me}: ANSWERED {me}#{sequence}, executed at s{seq}"))
            case Evidence(culprit, what):
                say(("main", f"{me}: EVIDENCE against {culprit}: {what}"))
            case Ignored(why):
                say(("ignored", f"{me}: ignores it: {why}"))

    def _install(self, i: int, effect: Install) -> Installed:
        installed = super()._install(i, effect)
        if installed.root is not None:
            self.checker.installed(self.now, i, installed.seq, installed.root)
        return installed

    # --- clients that are machines, beside requests made by hand ---

    def of_client(self, name: str, effects: Any) -> None:
        """What client *name* asks for."""
        for effect in effects:
            self._write(name, effect)
            match effect:
                case Send(to, message):
                    self.bag.append((to, message))
                case Broadcast(message):
                    self.bag += [(to, message) for to in range(self.config.nodes)]

    def wake(self, name: str) -> None:
        """The retry timer of a client runs out."""
        waiting = self.clients[name]
        assert waiting.unanswered
        self.now = waiting._timer_ns or self.now
        self.of_client(name, waiting.step(self.now, TimerFired("retry")))

    def arrive(self, to: int, message: Any) -> None:
        """A message reaches replica *to*, and replies reach clients that are machines."""
        sender = sender_of(message)
        if to in self.replicas and (sender in self.cut) == (to in self.cut):
            if not authentic(message, self.config.chain_id, self.announced):
                self.lines.append(
                    ("main", f"{to}: refuses {self.describe(message)}: {sender} did not sign that")
                )
            self.step(to, message)
        replies, self.replies = self.replies, []
        for reply in replies:
            client = self.clients.get(reply.client)
            if client is not None and authentic(reply, self.config.chain_id, self.keyring):
                self.of_client(reply.client, client.step(self.now, reply))

    # --- words for things ---

    def name(self, digest: bytes) -> str:
        """A batch by the operations in it."""
        return self.names.get(digest, "?")

    def learn(self, batch: Batch) -> str:
        """Remember what a batch is called."""
        name = "+".join(request.operation.decode() for request in batch.requests) or "null"
        return self.names.setdefault(batch.digest, name)

    def describe(self, message: Any) -> str:
        """One message or record, short."""
        match message:
            case PrePrepare(view, seq, digest, _, batch):
                return f"PrePrepare v{view} s{seq} {self.learn(batch) if batch else self.name(digest)}"
            case Prepare(view, seq, digest) | Commit(view, seq, digest):
                return f"{type(message).__name__} v{view} s{seq} {self.name(digest)}"
            case Request(client, sequence, operation):
                return f"Request {client}#{sequence} {operation.decode()}"
            case Reply(_, client, sequence, _, seq):
                return f"Reply {client}#{sequence}, executed at s{seq}"
            case Checkpoint(seq):
                return f"Checkpoint s{seq}"
            case ViewChange(view, stable, _, prepared):
                shown = ", ".join(self.describe(entry) for entry in prepared) or "nothing prepared"
                return f"ViewChange v{view} h{stable}: {shown}"
            case Prepared(proposal):
                return f"s{proposal.seq} {self.name(proposal.digest)} prepared in v{proposal.view}"
            case NewView(view, changes, proposals):
                shown = ", ".join(f"s{p.seq} {self.name(p.digest)}" for p in proposals) or "nothing"
                return f"NewView v{view} from {','.join(str(c.replica) for c in changes)}: carries {shown}"
            case Status(view, changing, _, stable, executed):
                return f"Status v{view}{' changing' if changing else ''} h{stable} executed {executed}"
            case Fetch(seq, digest):
                return f"Fetch s{seq} {self.name(digest)}"
            case FetchReply(blocks, bodies, checkpoint):
                parts = [f"block s{block.seq} {self.name(block.batch.digest)}" for block in blocks]
                parts += [f"body {self.learn(batch)}" for batch in bodies]
                parts += [f"checkpoint s{checkpoint.seq}"] if checkpoint else []
                return f"FetchReply {', '.join(parts) or 'nothing'}"
            case SnapshotHead(manifest):
                return f"SnapshotHead s{manifest.seq}"
            case FetchChunk(seq, index):
                return f"FetchChunk s{seq} {index}"
            case QuorumCertificate(kind, _, seq):
                return f"{kind} certificate s{seq}"
        raise ValueError(f"{message!r} is neither a message nor a record")


def kind_of(message: Any) -> str:
    """Which choice of ``show`` this message falls under."""
    return {Reply: "reply", Status: "status", FetchChunk: "chunk"}.get(type(message), "main")


class Transcript(Byzantine):
    """One network of replicas, driven line by line."""

    def __init__(self) -> None:
        self.shown = {"main"}
        self.requests: dict[str, Request] = {}

    def run(self, command: str) -> str:
        verb, *words = shlex.split(command)
        options = dict(word.split("=", 1) for word in words if "=" in word)
        places = [word for word in words if "=" not in word]
        return "\n".join(getattr(self, f"do_{verb}")(*places, **options)) or "ok"

    def do_cluster(self, *, n: str, **settings: str) -> Iterator[str]:
        """cluster n=4 K=2 L=4 batch=1 window=16"""
        config = {SETTINGS[key]: int(value) for key, value in settings.items()}
        self.net = Traced(int(n), **config)
        yield f"primary 0, f={self.net.config.faults}, quorum {self.net.config.quorum}"

    def do_show(self, *kinds: str) -> Iterator[str]:
        """show view-change ignored reply persist status: kinds of line to show from here on"""
        assert set(kinds) <= set(ASIDE), f"one can show {', '.join(ASIDE)}"
        self.shown = {"main", *kinds}
        return iter(())

    def do_request(self, client: str, operation: str, *, to: str = "0") -> Iterator[str]:
        """request bank A to=0,1: a client signs its next request and these replicas get it at once"""
        sequence = 1 + sum(request.client == client for request in self.requests.values())
        self.requests[operation] = self.net.request(sequence, operation.encode(), client)
        yield from self._happens(lambda: self._hand(operation, to))

    def do_serve(self, client: str, *operations: str) -> Iterator[str]:
        """serve bank A B C: request and deliver, one after the other; only what is committed last is shown"""
        for operation in operations:
            list(self.do_request(client, operation))
            shown = list(self.do_deliver())
        yield from (line for line in shown if "COMMITTED" in line)

    def do_repeat(self, operation: str, *, to: str = "0") -> Iterator[str]:
        """repeat A to=0,1: the request is sent again"""
        yield from self._happens(lambda: self._hand(operation, to))

    def _hand(self, operation: str, to: str) -> None:
        for receiver in to.split(","):
            self.net.arrive(int(receiver), self.requests[operation])

    def do_client(self, name: str) -> Iterator[str]:
        """client bank: a client machine that submits, counts replies and repeats"""
        net = self.net
        net.clients[name] = Client(name, net.config, net.signers[name], net.keyring, 1000 * MS)
        return iter(())

    def do_submit(self, name: str, operation: str) -> Iterator[str]:
        """submit bank A: the client machine is asked to have A executed"""
        event = Submit(operation.encode(), 0)
        yield from self._happens(
            lambda: self.net.of_client(name, self.net.clients[name].step(self.net.now, event))
        )

    def do_deliver(self, *kinds: str, sender: str = "", to: str = "") -> Iterator[str]:
        """deliver Prepare Commit sender=0,1 to=3: first in, first out, until none of these is on the wire"""
        yield from self._happens(lambda: self._deliver(kinds, sender, to))

    def _deliver(self, kinds: tuple[str, ...], sender: str, to: str) -> None:
        for _ in range(10_000):
            place = next((i for i, e in enumerate(self.net.bag) if _fits(e, kinds, sender, to)), None)
            if place is None:
                return
            self.net.arrive(*self.net.bag.pop(place))
        raise AssertionError("the replicas did not fall quiet in 10,000 deliveries")

    def do_drop(self, *kinds: str, sender: str = "", to: str = "") -> Iterator[str]:
        """drop Commit sender=0 to=3: lose these of what is on the wire now"""
        before = len(self.net.bag)
        self.net.bag = [e for e in self.net.bag if not _fits(e, kinds, sender, to)]
        yield f"lost {before - len(self.net.bag)}"

    def do_cut(self, *replicas: str) -> Iterator[str]:
        """cut 3: these replicas reach one another only; `cut` alone heals"""
        self.net.cut = {int(replica) for replica in replicas}
        return iter(())

    def do_tick(self, who: str, timer: str) -> Iterator[str]:
        """tick 1,2 view-change: these timers run out; `tick all status`: all of that name that run"""
        net = self.net

        def ticking() -> None:
            for name in [str(i) for i in net.timers] if who == "all" else who.split(","):
                if name in net.clients:
                    net.wake(name)
                else:
                    assert who == "all" or timer in net.timers[int(name)], f"{name} has no such timer"
                    net.now = max(net.now, net.timers[int(name)].get(timer, 0))
                    net.fire(int(name), timer)

        yield from self._happens(ticking)

    def do_crash(self, *replicas: str) -> Iterator[str]:
        """crash 0 1: memory, timers and what is on its way to them are gone; the disk stays"""
        for replica in map(int, replicas):
            del self.net.replicas[replica]
            self.net.timers[replica] = {}
            self.net.bag = [e for e in self.net.bag if e[0] != replica]
        return iter(())

    def do_restart(self, *replicas: str) -> Iterator[str]:
        """restart 0 1: with what they persisted"""
        yield from self._happens(lambda: [self.net.restart(int(replica)) for replica in replicas])

    def do_held(self) -> Iterator[str]:
        """held: how many messages of views to come each replica keeps of one sender, at most"""
        for me, replica in self.net.replicas.items():
            yield f"{me}: {replica.early.most()}, and may keep {2 * self.net.config.log_window}"

    def do_status(self) -> Iterator[str]:
        """status: where every replica stands"""
        net = self.net
        for me in range(net.config.nodes):
            replica = net.replicas.get(me)
            if replica is None:
                yield f"{me}: down"
                continue
            state = "changing to" if replica.changing else "in"
            log = f"s{min(replica.slots)}..s{max(replica.slots)}" if replica.slots else "empty"
            done = " ".join(net.name(digest) for digest in net.history(me)) or "nothing"
            yield f"{me}: {state} view {replica.view}, h={replica.low}, log {log}, executed {done}"
        for violation in net.checker.violations:
            yield f"VIOLATION {violation.invariant} at {violation.replica}: {violation.what}"

    def _happens(self, act: Any) -> Iterator[str]:
        before = len(self.net.lines)
        act()
        yield from (line for kind, line in self.net.lines[before:] if kind in self.shown)


def _fits(entry: tuple[int, Any], kinds: tuple[str, ...], sender: str, to: str) -> bool:
    receiver, message = entry
    return (
        (not kinds or type(message).__name__ in kinds)
        and (not sender or str(sender_of(message)) in sender.split(","))
        and (not to or str(receiver) in to.split(","))
    )


def replay(path: Path) -> tuple[str, str]:
    """The transcript as written and as it would be written today."""
    written, transcript = path.read_text(encoding="utf-8"), Transcript()
    now = DIRECTIVE.sub(
        lambda m: f"{m['before']}{m['command']}\n----\n{transcript.run(m['command'])}\n", written
    )
    return written, now
