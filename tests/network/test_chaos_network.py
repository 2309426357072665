"""Chaos below the processes: members in network namespaces of their own that are cut off, lose packets or get hardly
any bandwidth; and a disk that is full. What was acknowledged is judged as ever (`chaos`).

Needs root, Mosquitto, and Debian's iproute2 and nftables; skipped with a word where they are missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos import AT_ONCE, Chaos
from tradebft.network.live.broker import free_port

SEARCHED = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
MOSQUITTO = shutil.which("mosquitto", path=SEARCHED)
PLACE = os.getpid() % 250  # tests run in several processes: each has a town of its own
BRIDGE, SUBNET = f"tbc{PLACE}", f"10.77.{PLACE}"
HOST = f"{SUBNET}.254"
N = 4

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and mounts need root")
walled = pytest.mark.skipif(
    MOSQUITTO is None or any(shutil.which(tool, path=SEARCHED) is None for tool in ("ip", "nft", "tc")),
    reason="not installed: one of mosquitto, ip, nft, tc",
)


def do(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, env={**os.environ, "PATH": SEARCHED})


def space(index: int) -> str:
    return f"{BRIDGE}-{index}"


class Town:
    """A namespace for each member, all on one bridge, at which the broker listens."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"mqtt://{HOST}:{self.port}"
        self._folder = folder

    def build(self) -> None:
        do("ip", "link", "add", BRIDGE, "type", "bridge")
        do("ip", "address", "add", f"{HOST}/24", "dev", BRIDGE)
        do("ip", "link", "set", BRIDGE, "up")
        for index in range(N):
            inside, wire = space(index), f"tbv{PLACE}-{index}"
            do("ip", "netns", "add", inside)
            do("ip", "link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", inside)
            do("ip", "link", "set", wire, "master", BRIDGE, "up")
            do("ip", "-n", inside, "address", "add", f"{SUBNET}.{index + 1}/24", "dev", "eth0")
            do("ip", "-n", inside, "link", "set", "eth0", "up")
            do("ip", "-n", inside, "link", "set", "lo", "up")
        configuration = self._folder / "mosquitto.conf"
        configuration.write_text(
            f"listener {self.port} {HOST}\nallow_anonymous true\nset_tcp_nodelay true\n"
            "max_inflight_messages 1000\nmax_queued_messages 100000\nlog_type none\n"
        )
        assert MOSQUITTO is not None
        self._broker = subprocess.Popen([MOSQUITTO, "-c", str(configuration)])

    def clear(self) -> None:
        if hasattr(self, "_broker"):
            self._broker.terminate()
            self._broker.wait()
        for index in range(N):
            subprocess.run(["ip", "netns", "delete", space(index)], capture_output=True)
        subprocess.run(["ip", "link", "delete", BRIDGE], capture_output=True)

    def before(self, index: int) -> list[str]:
        """What puts a member's command into its namespace."""
        return ["ip", "netns", "exec", space(index)]

    # --- weather ---

    @contextlib.contextmanager
    def cut(self, *members: int) -> Iterator[None]:
        """Their cables are pulled."""
        for index in members:
            do("ip", "link", "set", f"tbv{PLACE}-{index}", "down")
        try:
            yield
        finally:
            for index in members:
                do("ip", "link", "set", f"tbv{PLACE}-{index}", "up")

    @contextlib.contextmanager
    def losing(self, index: int, percent: int) -> Iterator[None]:
        """So many of its packets are dropped on their way out."""
        nft = ("ip", "netns", "exec", space(index), "nft")
        do(*nft, "add table inet chaos; add chain inet chaos out { type filter hook output priority 0; }")
        do(*nft, f"add rule inet chaos out oif eth0 numgen random mod 100 < {percent} counter drop")
        try:
            yield
            told = subprocess.run([*nft, "list table inet chaos"], check=True, capture_output=True, text=True)
            found = re.search(r"counter packets (\d+)", told.stdout)
            assert found is not None
            assert int(found[1]) > 0, told.stdout  # the weather was bad
        finally:
            do(*nft, "delete table inet chaos")

    @contextlib.contextmanager
    def narrow(self, index: int, rate: str) -> Iterator[None]:
        """It may send at *rate*."""
        device = ("dev", "eth0", "root")
        do(
            "tc",
            "-n",
            space(index),
            "qdisc",
            "add",
            *device,
            "tbf",
            "rate",
            rate,
            "burst",
            "8kb",
            "latency",
            "500ms",
        )
        try:
            yield
        finally:
            do("tc", "-n", space(index), "qdisc", "delete", *device)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path)
    made.clear()
    try:
        made.build()
        yield made
    finally:
        made.clear()


def played(scene, seconds=180):  # type: ignore[no-untyped-def]
    async def run():  # type: ignore[no-untyped-def]
        async with asyncio.timeout(seconds):
            return await scene()

    return asyncio.run(run())


@walled
def test_service_goes_on_without_one_and_stops_and_resumes_without_two(tmp_path: Path, town: Town) -> None:
    async def scene() -> None:
        async with Chaos(tmp_path, urls=[town.url], before=town.before) as chaos:
            with town.cut(0):
                await chaos.served(20)  # another leads
            await chaos.served(20)
            with town.cut(1, 2):
                await asyncio.sleep(1)
                acknowledged = len(chaos.acknowledged)
                await asyncio.sleep(3)
                assert len(chaos.acknowledged) - acknowledged <= AT_ONCE  # committed before, and answered now
            await chaos.served(20)

    played(scene)


@walled
@pytest.mark.parametrize("percent", [pytest.param(5, marks=pytest.mark.slow), 20])
def test_packets_are_lost(tmp_path: Path, town: Town, percent: int) -> None:
    async def scene() -> None:
        async with Chaos(tmp_path, urls=[town.url], before=town.before) as chaos:
            with contextlib.ExitStack() as weather:
                for index in range(N):
                    weather.enter_context(town.losing(index, percent))
                await chaos.served(100, 120)
            await chaos.served(20)

    played(scene)


@walled
@pytest.mark.slow
def test_a_member_with_hardly_any_bandwidth_holds_nobody_up(tmp_path: Path, town: Town) -> None:
    async def scene() -> None:
        async with Chaos(tmp_path, urls=[town.url], before=town.before) as chaos:
            with town.narrow(3, "64kbit"):
                await chaos.served(300)
            await chaos.served(20)

    played(scene)


def test_a_full_disk_ends_its_member_and_nobody_else(tmp_path: Path) -> None:
    """It stops before it says anything that is not durable, and comes back when there is room."""
    small = tmp_path / "small"
    small.mkdir()
    do("mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(small))

    async def scene() -> None:
        chaos = Chaos(tmp_path)
        folders = {3: small}
        chaos.network.store = lambda index: folders.get(index, tmp_path) / f"replica.{index}.db"
        async with chaos:
            while not chaos.network.members[3].ended:
                await chaos.served(5)
            assert "full" in chaos.network.members[3].ended
            await chaos.network.gone(3)
            chaos.down.add(3)
            await chaos.served(30)
            do("mount", "-o", "remount,size=200m", str(small))

    try:
        played(scene)
    finally:
        do("umount", "-l", str(small))
