"""Changes of the members in a case: which are drawn, and the governor who submits them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator
from typing import Any, Final

from simpy.events import Event
from tradebft.consensus.interface import Config
from tradebft.consensus.membership import sizes
from tradebft.lab.fuzz.case import Case, MemberChange
from tradebft.lab.fuzz.dice import Dice
from tradebft.network.application import members_operation
from tradebft.network.cluster import Cluster

MS: Final = 10**6
FEWEST: Final = 4  # members that tolerate a fault
TRIES: Final = 20


def spare_of(dice: Dice) -> int:
    """How many members wait to be admitted."""
    return dice.whole(1, 2)


def changes_of(
    dice: Dice, config: Config, spare: int, storm_ns: int, lasting: Collection[int]
) -> tuple[MemberChange, ...]:
    """One to three changes during the storm, each of one member: admitted, retired, or given its next key. *lasting*:
    who is Byzantine or gone; there are never more of them than the replicas of that time tolerate."""
    members = dict.fromkeys(range(config.nodes), 0)
    generations: dict[int, int] = {}
    found = []
    for at in sorted(dice.whole(0, storm_ns // MS) * MS for _ in range(dice.whole(1, 3))):
        for _ in range(TRIES):
            changed = _changed(dice, members, generations, range(config.nodes + spare))
            if len(changed) >= FEWEST and len(set(lasting) & set(changed)) <= sizes(len(changed))[0]:
                members = changed
                generations.update(changed)
                found.append(MemberChange(at, tuple(sorted(members.items()))))
                break
    return tuple(found)


def _changed(
    dice: Dice, members: dict[int, int], generations: dict[int, int], everybody: range
) -> dict[int, int]:
    outside = [index for index in everybody if index not in members]
    what = dice.pick(("admit", "admit", "retire", "rekey"))
    if what == "admit" and outside:
        index = dice.pick(outside)
        return {**members, index: generations.get(index, 0)}
    index = dice.pick(sorted(members))
    if what == "retire":
        return {member: key for member, key in members.items() if member != index}
    return {**members, index: members[index] + 1}


def later_keys(case: Case) -> int:
    """How many keys a member may come to use after its first."""
    return max((key for change in case.changes for _, key in change.members), default=0)


def govern(case: Case, cluster: Cluster, submit: Callable[[bytes], object]) -> Generator[Event, Any, None]:
    """Submit each change at its time, whether the one before was agreed or not: they may be agreed in another order, so
    that a replaced key comes into use again. The first key is written as none: it was registered at genesis."""
    for change in case.changes:
        if change.at_ns > cluster.env.time:
            yield cluster.env.timeout(change.at_ns - cluster.env.time)
        submit(
            members_operation(
                tuple((index, cluster.keys[index][key] if key else b"") for index, key in change.members)
            )
        )
