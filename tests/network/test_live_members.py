"""The same replicas in real time: real signatures, real disks, restarts, a bus that loses and repeats."""

from __future__ import annotations

import asyncio

import pytest
from live_network import LiveNetwork
from tradebft.chain.store import Store
from tradebft.network.live.envelope import seal
from tradebft.network.live.kept import Kept
from tradebft.network.live.local import LocalHub


def played(network, scene, seconds=40):
    """Run *scene* with *network*, and see everybody off."""

    async def run():
        try:
            async with asyncio.timeout(seconds):
                return await scene(network)
        finally:
            await network.close()

    return asyncio.run(run())


def test_requests_are_answered_and_all_members_agree(tmp_path):
    async def scene(network):
        await network.start(0, 1, 2, 3)
        bank, mill = await network.client("bank"), await network.client("mill")
        asked = [client.submit(f"pay {k}".encode()) for k in range(40) for client in (bank, mill)]
        answers = await asyncio.gather(*asked)
        assert sorted(a.sequence for a in answers[::2]) == list(range(1, 41))
        assert all(a.answered_ns > a.submitted_ns and a.seq > 0 for a in answers)
        height = await network.level()
        assert 4 <= height <= 80
        assert not any(member.evidence for member in network.members.values())
        return height

    network = LiveNetwork(tmp_path)
    height = played(network, scene)
    stores = [Store.open(network.store(i), network.founding.identity) for i in range(4)]
    try:  # every vote and every block is on every disk, and the blocks are the same
        kept = [Kept(store) for store in stores]
        for seq in range(1, height + 1):
            found = {k.block(seq).batch.digest for k in kept if k.block(seq) is not None}
            assert len(found) == 1
        assert {k.height for k in kept} == {height}
    finally:
        for store in stores:
            store.close()


def test_a_member_that_was_away_comes_back_from_its_disk(tmp_path):
    async def scene(network):
        await network.start(0, 1, 2, 3)
        bank = await network.client()
        await asyncio.gather(*(bank.submit(b"before %d" % k) for k in range(10)))
        before = await network.level()
        await network.stop(3)
        for k in range(30):
            await bank.submit(b"meanwhile %d" % k)
        await network.start(3)
        assert network.members[3].height == before
        await asyncio.gather(*(bank.submit(b"after %d" % k) for k in range(10)))
        assert await network.level() > before + 5

    played(LiveNetwork(tmp_path, snapshot_interval=8), scene)


def test_a_dead_primary_is_replaced_and_all_restart_at_once(tmp_path):
    async def scene(network):
        await network.start(0, 1, 2, 3)
        bank = await network.client()
        await bank.submit(b"first")
        await network.stop(0)
        answer = await bank.submit(b"second")
        assert network.members[1].replica.view == 1
        await network.stop(1, 2, 3)
        await network.start(0, 1, 2, 3)
        later = await bank.submit(b"third")
        assert later.seq > answer.seq
        await network.level()

    # Long enough that a busy machine changes views once, and not again before the first change is through.
    played(LiveNetwork(tmp_path, view_change_timeout_ns=2_000_000_000), scene)


def test_a_bus_that_loses_repeats_and_delays(tmp_path):
    hub = LocalHub(loss=0.03, duplicates=0.2, delay_s=lambda chance: chance.expovariate(300), seed=2)

    async def scene(network):
        await network.start(0, 1, 2, 3)
        bank = await network.client()
        answers = await asyncio.gather(*(bank.submit(b"%d" % k) for k in range(60)))
        assert len({a.sequence for a in answers}) == 60
        await bank.submit(b"last")
        counts = [member.port.bus.counts for member in network.members.values()]
        assert sum(count["lost"] for count in counts) > 0
        assert sum(count["refused: come before"] for count in counts) > 10

    played(LiveNetwork(tmp_path, hub=hub), scene)


def test_hostile_bytes_reach_nobody(tmp_path):
    """Noise, sealed nonsense, and true envelopes once more: counted, and honest traffic goes on."""

    async def scene(network):
        await network.start(0, 1, 2, 3)
        bank = await network.client()
        await bank.submit(b"first")
        spy = network.hub.bus()
        heard = []
        await spy.open("spy", ("net/+/all",), lambda topic, data: heard.append((topic, data)))
        await bank.submit(b"second")
        chain = network.members[0].port._chain
        for k in range(300):
            spy.publish("net/replica.1/all", bytes(k))
            spy.publish(*heard[k % len(heard)])
            topic = "net/mill/all"
            spy.publish(topic, seal(network.signers["mill"], "mill", chain, topic, 99, k, (bytes(k),)))
        await bank.submit(b"third")
        await network.level()
        counts = network.members[0].port.bus.counts
        assert counts["refused: no envelope"] + counts["refused: not sealed by its sender"] >= 300
        assert counts["refused: come before"] > 50
        assert network.members[0].counts["malformed"] >= 299
        await spy.close()

    played(LiveNetwork(tmp_path), scene)


def test_a_client_may_have_its_whole_window_outstanding_at_once(tmp_path):
    """It came down to what an inbox held of one sender once, and the rest waited for the client's timeout."""

    async def scene(network):
        await network.start(0, 1, 2, 3)
        bank = await network.client()
        await asyncio.gather(*(bank.submit(b"pay %d" % k) for k in range(1300)))
        assert not any(member.counts["inbox full"] for member in network.members.values())

    config = {"client_window": 2000, "batch_size": 200, "checkpoint_interval": 64, "log_window": 128}
    played(LiveNetwork(tmp_path, **config), scene)


@pytest.mark.slow
def test_throughput_of_one_process(tmp_path):
    """A floor far below what is measured; the figure is printed."""

    async def scene(network):
        await network.start(0, 1, 2, 3)
        bank = await network.client()
        begun = asyncio.get_running_loop().time()
        for _ in range(20):
            await asyncio.gather(*(bank.submit(bytes(100)) for _ in range(200)))
        rate = 4000 / (asyncio.get_running_loop().time() - begun)
        print(f"{rate:.0f} requests a second, four members in one process")
        assert rate > 50

    played(LiveNetwork(tmp_path, batch_size=200, checkpoint_interval=64, log_window=128), scene, 120)
