"""Chaos on real processes: members killed and frozen, brokers killed, everything at once.

A short form of each runs always; the long form (`-m slow`) draws two hundred faults. Its figures are in docs/limits.md.
"""

from __future__ import annotations

import asyncio
import random

import pytest
from chaos import Chaos


def played(scene, seconds=120):
    async def run():
        async with asyncio.timeout(seconds):
            return await scene()

    return asyncio.run(run())


def test_a_primary_is_killed_and_comes_back(tmp_path):
    async def scene():
        async with Chaos(tmp_path) as chaos:
            await chaos.kill(0)
            await chaos.served(20)  # another leads
            stands = await chaos.network.stands()
            assert all(stand.view >= 1 for stand in stands.values())
            await chaos.restart(0)
            await chaos.served(10)

    played(scene)


def test_all_members_are_killed_at_once(tmp_path):
    """As by a power cut: what was acknowledged is on their disks."""

    async def scene():
        async with Chaos(tmp_path) as chaos:
            before = dict(chaos.acknowledged)
            await chaos.kill(0, 1, 2, 3)
            assert len(chaos.acknowledged) >= len(before)
            await chaos.restart(0, 1, 2, 3)
            await chaos.served(20)

    played(scene)


def test_a_frozen_member_is_done_without_and_catches_up(tmp_path):
    async def scene():
        async with Chaos(tmp_path) as chaos:
            async with chaos.frozen(2):
                await chaos.served(60)
            await chaos.served(10)

    played(scene)


def test_the_broker_is_killed_and_comes_back(tmp_path):
    async def scene():
        async with Chaos(tmp_path) as chaos:
            await chaos.kill_broker()
            await asyncio.sleep(1.0)
            await chaos.brokers[0].start()
            await chaos.served(20)

    played(scene)


def test_one_of_two_brokers_is_killed_and_service_goes_on(tmp_path):
    async def scene():
        async with Chaos(tmp_path, brokers=2) as chaos:
            await chaos.kill_broker(0)
            await chaos.served(40)

    played(scene)


def test_the_judge_sees_what_is_missing(tmp_path):
    """A request that no member executed, said to be acknowledged."""

    async def scene():
        async with Chaos(tmp_path) as chaos:
            chaos.acknowledged[b"never executed"] = 1 << 40

    with pytest.raises(AssertionError, match="lost"):
        played(scene)


@pytest.mark.slow
def test_two_hundred_faults_in_a_row(tmp_path, capsys):
    dice = random.Random(1)

    async def scene():
        async with Chaos(tmp_path, brokers=2) as chaos:
            while sum(chaos.faults.values()) < 200:
                match dice.randrange(5):
                    case 0:
                        victim = dice.randrange(4)
                        await chaos.kill(victim)
                        await chaos.served(dice.randrange(1, 30))
                        await chaos.restart(victim)
                    case 1:
                        victims = dice.sample(range(4), dice.randrange(2, 5))
                        await chaos.kill(*victims)
                        await chaos.restart(*victims)
                    case 2:
                        async with chaos.frozen(dice.randrange(4)):
                            await chaos.served(dice.randrange(1, 60))
                    case 3:
                        which = dice.randrange(2)
                        await chaos.kill_broker(which)
                        await chaos.served(dice.randrange(1, 30))
                        await chaos.brokers[which].start()
                    case 4:
                        for which in (0, 1):
                            await chaos.kill_broker(which)
                        await asyncio.sleep(dice.random() * 2)
                        for broker in chaos.brokers:
                            await broker.start()
                await chaos.served(dice.randrange(1, 20))
            return chaos

    chaos = played(scene, 3000)
    with capsys.disabled():
        print(f"\n{dict(chaos.faults)}; {len(chaos.acknowledged)} acknowledged, lost: 0")
