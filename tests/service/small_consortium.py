"""A consortium of four on this machine: a broker, nodes as processes of their own, and commands as people type them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tradebft.lab import cli
from tradebft.network.live.broker import EmbeddedBroker, free_port
from tradebft.service.consortium import Plan, create

A, B = "commercial_bank.1", "commercial_bank.2"
VALIDATORS = ("administrator", "policy_bank", A, B)
OFFICES = ("customs", "auditor")
SECONDS = 60.0
COMMAND = [sys.executable, "-c", "from tradebft.lab.cli import main; main()"]


class Said(NamedTuple):
    """What a command ended with."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def said(capsys: pytest.CaptureFixture[str], *words: object) -> Said:
    """`tradebft words`, in this process."""
    with pytest.raises(SystemExit) as left:
        cli.main([str(word) for word in words])
    out, err = capsys.readouterr()
    return Said(int(left.value.code or 0), out, err)


def told(*words: object) -> Said:
    """The same where nothing captures, as in a fixture of a whole module."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as left,
    ):
        cli.main([str(word) for word in words])
    return Said(int(left.value.code or 0), out.getvalue(), err.getvalue())


class Broker:
    """The broker that comes along, in a thread that keeps it."""

    def __init__(self) -> None:
        self.port = free_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._broker = EmbeddedBroker(self.port)
        self._do(self._broker.start())

    def stop(self) -> None:
        self._do(self._broker.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(SECONDS)


class Consortium:
    """Four nodes, started by `start` as an operator would."""

    def __init__(self, folder: Path, plan: Callable[[str, int], Plan] | None = None) -> None:
        self.folder = folder
        self.broker = Broker()
        self.http = _free_ports(len(VALIDATORS))
        url = f"mqtt://127.0.0.1:{self.broker.port}"
        usual = Plan("pilot", [url], (), VALIDATORS, OFFICES, http_port=self.http)
        self.founding = create(folder, usual if plan is None else plan(url, self.http))
        self.nodes: dict[int, subprocess.Popen[bytes]] = {}

    def settings(self, index: int) -> Path:
        return self.folder / "nodes" / f"replica.{index}" / "node.toml"

    def store(self, index: int) -> Path:
        return self.settings(index).parent / "store.db"

    def log(self, index: int) -> list[dict[str, Any]]:
        text = self.settings(index).with_name("log").read_text()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def start(self, *indices: int) -> None:
        for index in indices:
            with open(self.settings(index).with_name("log"), "ab") as log:
                command = [*COMMAND, "node", "--config", str(self.settings(index))]
                self.nodes[index] = subprocess.Popen(command, stderr=log, start_new_session=True)
        for index in indices:
            self.until(index, lambda health: health.get("status") == "ok")

    def stop(self, index: int) -> int:
        """SIGTERM; its exit code."""
        process = self.nodes.pop(index)
        process.send_signal(signal.SIGTERM)
        return process.wait(SECONDS)

    def get(self, index: int, path: str) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.http + index}{path}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def health(self, index: int) -> dict[str, Any]:
        text = self.get(index, "/health")[1]
        return dict(json.loads(text)) if text else {}

    def until(self, index: int, holds: Any) -> dict[str, Any]:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            if holds(health := self.health(index)):
                return health
            if index in self.nodes and self.nodes[index].poll() is not None:
                break
            time.sleep(0.1)
        log = self.settings(index).with_name("log").read_text()
        raise AssertionError(f"replica {index}: {self.health(index)}\n{log}")

    def close(self) -> None:
        for process in self.nodes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.broker.stop()


def _free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody listens on now."""
    import socket

    while True:
        first = free_port()
        if first + count > 65_000:
            continue
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
