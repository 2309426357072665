"""A seed becomes a case. First the seed draws which kinds of trouble there are at all and how hard, then each of them.

That order is the point (swarm testing: Groce and others, ISSTA 2012; TigerBeetle's simulator draws its options so): a
case with every kind of fault at once hides what two of them do to each other, and a case that is always half bad never
meets a network that is very bad in one way. docs/fuzzing.md has the table of probabilities.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace
from tradebft.consensus.interface import Config
from tradebft.lab.fuzz.adversity import adversaries_of, dishonest_of
from tradebft.lab.fuzz.case import Ask, Case, Links
from tradebft.lab.fuzz.dice import Dice
from tradebft.lab.fuzz.members import changes_of, spare_of
from tradebft.network.chance import Chance
from tradebft.network.faults import Fault, Kind

MS, S = 10**6, 10**9
NODES: Final = (4, 13)  # fewest and most members, both included
SWARM: Final = {  # how likely each kind of trouble is in a case
    "adversaries": 0.75,
    "dishonest clients": 0.25,
    "gone": 0.35,
    "crash": 0.55,
    "power cut": 0.25,
    "partition": 0.4,
    "slow": 0.3,
    "loss": 0.45,
    "one-way": 0.25,
    "twisted": 0.35,
    "drift": 0.25,
    "torn": 0.25,
    "ledger": 0.25,
    "members": 0.25,
}
CALM: Final = 0.04  # share of the cases without any of it


def draw(seed: int, nodes: range | int | None = None, beyond_f: bool = False, mutant: str = "") -> Case:
    """The case of *seed*.

    *nodes*: how many members, or from which range they are drawn. *beyond_f*: one adversary more than is tolerated,
    all in league, and no other trouble. ValueError for fewer than 4 members, who tolerate no fault.
    """
    chance = Chance(seed)

    def dice(topic: str) -> Dice:
        return Dice(chance.stream("fuzz", topic))

    low, high = _range(nodes)
    config = _config(dice("config"), low, high)
    storm_ns = dice("storm").whole(2 * S, 6 * S) // MS * MS
    on = _swarm(dice("swarm"), beyond_f)
    clients = tuple(f"client.{k}" for k in range(dice("clients").whole(1, 4)))
    adversaries = (
        adversaries_of(dice("adversaries"), config, storm_ns, beyond_f) if "adversaries" in on else ()
    )
    spared = config.faults - len({adversary.node for adversary in adversaries})
    faults: list[Fault] = []
    spare = spare_of(dice("members")) if "members" in on else 0
    reached = replace(config, nodes=config.nodes + spare)
    for topic, make in _FAULTS.items():
        if topic in on:
            faults += make(dice(topic), reached, storm_ns)
    if "gone" in on and spared > 0:
        faults += _gone(dice("gone"), config, storm_ns, spared, {a.node for a in adversaries})
    asks = _asks(dice("asks"), clients, storm_ns)
    case = Case(
        seed=seed,
        config=config,
        links=_links(dice("links")),
        clients=clients,
        client_timeout_ns=dice("patience").pick((300 * MS, 1 * S)),
        asks=asks,
        storm_ns=storm_ns,
        faults=tuple(sorted(faults, key=lambda fault: fault.at_ns)),
        adversaries=adversaries,
        dishonest=dishonest_of(dice("dishonest clients"), clients) if "dishonest clients" in on else {},
        processor=dice("processor").happens(0.15),
        state_bytes=dice("state").pick((0, 0, 150_000)),
        beyond_f=beyond_f,
        mutant=mutant,
    )
    if "members" in on:
        lasting = case.byzantine | case.gone
        changes = changes_of(dice("changes"), config, spare, storm_ns, lasting)
        return replace(case, spare=spare, changes=changes)
    if "ledger" in on:
        in_time = tuple(Ask(ask.at_ns, ask.client, rank) for rank, ask in enumerate(asks))
        return replace(case, application="ledger", asks=in_time)
    return case


def _range(nodes: range | int | None) -> tuple[int, int]:
    if nodes is None:
        return NODES
    low, high = (nodes, nodes) if isinstance(nodes, int) else (nodes[0], nodes[-1])
    if low < 4:
        raise ValueError(f"expected at least 4 members, fewer tolerate no fault; found {low}")
    return low, high


def _swarm(dice: Dice, beyond_f: bool) -> frozenset[str]:
    calm = dice.happens(CALM)
    drawn = {topic for topic, probability in SWARM.items() if dice.happens(probability)}
    if beyond_f:
        return frozenset({"adversaries"})
    return frozenset() if calm else frozenset(drawn)


def _config(dice: Dice, low: int, high: int) -> Config:
    """Small windows, so that they wrap: K from 1 to 4, L from K + 1 to 2 K (2 where K is 1)."""
    # Half of the clusters from the smaller half: they run faster, and most that goes wrong goes wrong there.
    nodes = dice.whole(low, (low + high) // 2 if dice.happens(0.5) else high)
    k = dice.whole(1, 4)
    return Config(
        nodes=nodes,
        batch_size=dice.pick((1, 2, 5)),
        batch_timeout_ns=dice.pick((0, 5 * MS, 20 * MS)),
        window=dice.pick((1, 2, 4, 8)),
        checkpoint_interval=k,
        log_window=dice.whole(k + 1, max(2 * k, k + 1)),
        snapshot_interval=k * dice.pick((0, 1, 2, 3)),
        view_change_timeout_ns=dice.pick((300 * MS, 500 * MS, 1 * S)),
        status_interval_ns=dice.pick((0, 0, 0, 150 * MS)),
        client_window=dice.pick((2, 8, 64)),
    )


def _links(dice: Dice) -> Links:
    """Delays up to some 40 ms: a view-change timeout is longer than a round, or no view would last."""
    model = dice.pick(("constant", "uniform", "normal", "lognormal"))
    middle = dice.whole(2, 20) * MS
    spread = dice.share(0.1, 0.5)
    if model == "constant":
        return Links(model, {"delay_ns": middle})
    if model == "uniform":
        return Links(model, {"low_ns": int(middle * (1 - spread)), "high_ns": int(middle * (1 + spread))})
    if model == "normal":
        return Links(model, {"mean_ns": middle, "std_ns": int(middle * spread)})
    return Links(model, {"median_ns": middle // 2, "sigma": spread})


def _asks(dice: Dice, clients: tuple[str, ...], storm_ns: int) -> tuple[Ask, ...]:
    """30 to 60 requests, some alone and some in bursts, most of them during the storm."""
    count = dice.whole(30, 60)
    bursty = dice.share(0.0, 0.9)
    asks: list[Ask] = []
    at_ns = 0
    for number in range(count):
        if not asks or not dice.happens(bursty):
            at_ns = dice.whole(0, storm_ns // MS) * MS
        asks.append(Ask(at_ns, dice.pick(clients), number))
    return tuple(sorted(asks, key=lambda ask: (ask.at_ns, ask.number)))


# --- faults of the network and of members; none lasts beyond the storm, except `gone` ---


def _span(dice: Dice, storm_ns: int, least_ns: int, most_ns: int) -> tuple[int, int]:
    """(at, for): a time within the storm."""
    lasts = dice.whole(least_ns // MS, min(most_ns, storm_ns) // MS) * MS
    return dice.whole(0, (storm_ns - lasts) // MS) * MS, lasts


def _crashes(dice: Dice, config: Config, storm_ns: int) -> list[Fault]:
    """Members go down and come back. The first leaders more often than others: that is what changes views."""
    faults = []
    for _ in range(dice.whole(1, 6)):
        at, lasts = _span(dice, storm_ns, 20 * MS, 3 * S)
        some = dice.some(range(config.nodes), dice.whole(1, config.faults))
        down = tuple(sorted(dice.pick((some, some, [0], [1], [0, 1]))))
        faults.append(Fault(at, lasts, "crash", down))
    return faults


def _power_cuts(dice: Dice, config: Config, storm_ns: int) -> list[Fault]:
    """All members go down at once, or a majority; disks stay. Some come back later than others."""
    faults = []
    for _ in range(dice.whole(1, 2)):
        at, lasts = _span(dice, storm_ns, 1 * MS, 2 * S)
        count = config.nodes if dice.happens(0.7) else dice.whole(config.faults + 1, config.nodes)
        for node in sorted(dice.some(range(config.nodes), count)):
            late = dice.whole(0, 300) * MS if dice.happens(0.3) else 0
            faults.append(Fault(at, min(lasts + late, storm_ns - at), "crash", (node,)))
    return faults


def _partitions(dice: Dice, config: Config, storm_ns: int) -> list[Fault]:
    faults = []
    for _ in range(dice.whole(1, 3)):
        at, lasts = _span(dice, storm_ns, 50 * MS, 4 * S)
        shuffled = dice.some(range(config.nodes), config.nodes)
        first = dice.whole(1, config.nodes - 1)
        second = dice.whole(first, config.nodes - 1) if dice.happens(0.3) else first
        groups = [tuple(sorted(g)) for g in (shuffled[:first], shuffled[first:second]) if g]
        faults.append(Fault(at, lasts, "partition", groups=tuple(groups)))
    return faults


def _slow(dice: Dice, config: Config, storm_ns: int) -> list[Fault]:
    faults = []
    for _ in range(dice.whole(1, 2)):
        at, lasts = _span(dice, storm_ns, 100 * MS, 4 * S)
        some = tuple(sorted(dice.some(range(config.nodes), dice.whole(1, config.faults))))
        faults.append(Fault(at, lasts, "slow", some, factor=dice.share(2, 40)))
    return faults


def _loss(dice: Dice, config: Config, storm_ns: int) -> list[Fault]:
    """The whole storm through, or for a while; up to 30 %. Sometimes only around a few members."""
    hard = dice.pick((0.02, 0.1, 0.3))
    faults = []
    for _ in range(dice.whole(1, 2)):
        at, lasts = (0, storm_ns) if dice.happens(0.5) else _span(dice, storm_ns, 100 * MS, 4 * S)
        some = dice.some(range(config.nodes), dice.whole(1, config.faults)) if dice.happens(0.3) else []
        faults.append(Fault(at, lasts, "loss", tuple(sorted(some)), loss=dice.share(0.001, hard)))
    return faults


def _one_way(dice: Dice, config: Config, storm_ns: int) -> list[Fault]:
    """Some are not heard by others whom they hear: gray failures."""
    faults = []
    for _ in range(dice.whole(1, 2)):
        at, lasts = _span(dice, storm_ns, 50 * MS, 4 * S)
        shuffled = dice.some(range(config.nodes), config.nodes)
        cut = dice.whole(1, config.nodes - 1)
        deaf = tuple(sorted(shuffled[cut : cut + dice.whole(1, config.nodes - cut)]))
        faults.append(Fault(at, lasts, "one-way", groups=(tuple(sorted(shuffled[:cut])), deaf)))
    return faults


def _twisted(dice: Dice, config: Config, storm_ns: int) -> list[Fault]:
    """Copies, messages out of order, spikes of delay; up to half of the messages."""
    faults = []
    kinds: tuple[Kind, ...] = ("duplicate", "reorder", "spike")
    for kind in dice.some(kinds, dice.whole(1, 3)):
        at, lasts = (0, storm_ns) if dice.happens(0.5) else _span(dice, storm_ns, 100 * MS, 4 * S)
        spread = dice.whole(1, 2000 if kind == "spike" else 200) * MS
        share = dice.share(0.01, 0.1 if kind == "spike" else 0.5)
        faults.append(Fault(at, lasts, kind, loss=share, spread_ns=spread))
    return faults


def _drift(dice: Dice, config: Config, storm_ns: int) -> list[Fault]:
    """Timers of some members run out at a quarter of their time, or four times too late."""
    some = tuple(sorted(dice.some(range(config.nodes), dice.whole(1, config.nodes - 1))))
    return [Fault(0, storm_ns, "drift", some, factor=dice.share(0.25, 4))]


def _torn(dice: Dice, config: Config, storm_ns: int) -> list[Fault]:
    """Power fails in the middle of a write, at one member or at several."""
    faults = []
    for _ in range(dice.whole(1, 4)):
        at, lasts = _span(dice, storm_ns, 50 * MS, 3 * S)
        some = tuple(sorted(dice.some(range(config.nodes), dice.whole(1, config.nodes))))
        faults.append(Fault(at, lasts, "crash", some, torn=True))
    return faults


_FAULTS: Final[dict[str, Callable[[Dice, Config, int], list[Fault]]]] = {
    "crash": _crashes,
    "power cut": _power_cuts,
    "partition": _partitions,
    "slow": _slow,
    "loss": _loss,
    "one-way": _one_way,
    "twisted": _twisted,
    "drift": _drift,
    "torn": _torn,
}


def _gone(dice: Dice, config: Config, storm_ns: int, spared: int, others: set[int]) -> list[Fault]:
    """Up to *spared* honest members are down for ever, or cut off from everybody: the rest must do without them."""
    left = [node for node in range(config.nodes) if node not in others]
    faults = []
    for node in sorted(dice.some(left, dice.whole(1, spared))):
        at = dice.whole(0, storm_ns // MS) * MS
        if dice.happens(0.6):
            faults.append(Fault(at, None, "crash", (node,)))
        else:
            faults.append(Fault(at, None, "partition", groups=((node,),)))
    return faults
