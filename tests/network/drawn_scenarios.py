"""Scenarios by number, to compare engines on: anything (`drawn`), with mishaps (`rough`), calm, and full of ties."""

from __future__ import annotations

import random

from tradebft.scenarios.schema import Scenario

LINKS = (
    {"model": "constant", "delay": "5 ms"},
    {"model": "constant", "delay": "0 ms"},
    {"model": "uniform", "low": "1 ms", "high": "9 ms"},
    {"model": "normal", "mean": "20 ms", "std": "4 ms"},
    {"model": "lognormal", "median": "5 ms", "sigma": 0.4},
    {"model": "distance"},
)


SLOW_CPU = {"message": "300 us", "execute": "2 ms"}


def settings_of(number: int) -> dict:
    """A busy scenario, as its file would say it."""
    dice = random.Random(number)
    interval = dice.choice([2, 4, 16, 128])
    log = dice.choice([interval + 1, 2 * interval, 4 * interval])
    workload = {
        "kind": "synthetic",
        "transactions": dice.choice([1, 40, 200, 400]),
        "payload_bytes": dice.choice([0, 10, 127, 128, 1000, 70_000]),
        "clients": dice.choice([1, 3, 30]),
    }
    if dice.random() < 0.5:
        workload |= {"arrival": "closed", "outstanding": dice.choice([1, 3, 40])}
    else:
        spacing = dice.choice(["poisson", "even"])
        workload |= {"arrival": "open", "rate": dice.choice([20, 200, 1000, 5000]), "spacing": spacing}
    network = {"nodes": dice.choice([2, 3, 4, 5, 6, 7, 10, 13, 16]), "links": dice.choice(LINKS)}
    if dice.random() < 0.4:
        network["bandwidth"] = dice.choice(["2 Mbit/s", "100 Mbit/s", "1 Gbit/s"])
    if (
        network.get("bandwidth") == "2 Mbit/s"
    ):  # more than that it cannot carry, and would change views for hours
        workload["payload_bytes"] = min(workload["payload_bytes"], 1000)
    if "bandwidth" in network:
        network["buffer"] = random.Random(f"buffer {number}").choice(["32 MiB", "200 KiB", "20 KiB", "4 KiB"])
    if dice.random() < 0.2:
        network["client_links"] = {"model": "uniform", "low": "1 ms", "high": "30 ms"}
    consensus = {
        "batch_size": dice.choice([1, 2, 10, 100, 600]),
        "batch_bytes": dice.choice(["1 KiB", "1 MiB"]),
        "batch_timeout": dice.choice(["0 ms", "5 ms", "20 ms"]),
        "window": min(log, dice.choice([1, 4, 16, 64])),
        "checkpoint_interval": interval,
        "log_window": log,
        "snapshot_interval": dice.choice([0, interval, 8 * interval]),
        "view_change_timeout": dice.choice(["500 ms", "1 s", "10 s"]),
        "client_timeout": "30 s",
        "client_window": dice.choice([64, 256, 1000]),
    }
    if dice.random() < 0.2:
        consensus["status_interval"] = "300 ms"
    cpu = dice.choice(["none", "measured", SLOW_CPU])
    return {
        "seed": number,
        "network": network,
        "nodes": {"cpu": cpu},
        "consensus": consensus,
        "workload": workload,
    }


def drawn(number: int) -> Scenario:
    """The scenario of that number."""
    return Scenario.model_validate(settings_of(number))


def without_some(given: dict, dice: random.Random, silent_share: float, moments: list[str]) -> None:
    """In half of the scenarios up to f backups are silent, or crash for good at one of these moments."""
    nodes = given["network"]["nodes"]
    away = dice.sample(range(1, nodes), dice.randint(0, (nodes - 1) // 3)) if dice.random() < 0.5 else []
    for node in away:
        if dice.random() < silent_share:
            given.setdefault("byzantine", []).append({"node": f"replica.{node}", "behaviour": "silent"})
        else:
            at = dice.choice(moments)
            given.setdefault("fault", []).append({"at": at, "crash": f"replica.{node}"})


def rough(number: int) -> Scenario:
    """The scenario of that number with mishaps: backups that crash for good or are silent, slow and parted members,
    loss."""
    dice = random.Random(-number)
    given = settings_of(number)
    nodes = given["network"]["nodes"]
    without_some(given, dice, 0.4, ["0 ms", "33 ms", "100 ms", "444 ms"])
    for _ in range(dice.choice([0, 1, 1, 2])):
        node = f"replica.{dice.randrange(nodes)}"
        when = {
            "at": dice.choice(["0 ms", "20 ms", "150 ms"]),
            "for": dice.choice(["10 ms", "200 ms", "2 s"]),
        }
        others = [f"replica.{k}" for k in range(nodes) if f"replica.{k}" != node]
        given.setdefault("fault", []).append(
            when
            | dice.choice(
                [
                    {"slow": node, "factor": dice.choice([1.5, 3, 40])},
                    {"slow": node, "factor": 2, "loss": 0.05},
                    {"slow": node, "factor": 1, "loss": dice.choice([0.01, 0.3])},
                    {"partition": [[node]]},
                    {"one_way": [[node], others]},
                ]
            )
        )
    if dice.random() < 0.3:
        given["network"]["loss"] = dice.choice([0.0005, 0.01, 0.05])
    return Scenario.model_validate(given)


def calm(number: int) -> Scenario:
    """The scenario of that number in which members usually have one batch at a time to do."""
    dice = random.Random(number)
    interval = dice.choice([1, 2, 4, 16, 128])
    log = dice.choice([interval + 3, 2 * interval + 2, 4 * interval + 2])
    links = dice.choice(LINKS[:1] + LINKS[2:])
    workload = {
        "kind": "synthetic",
        "transactions": dice.choice([1, 40, 200, 400]),
        "payload_bytes": dice.choice([0, 10, 127, 128, 1000]),
        "clients": dice.choice([1, 1, 3]),
    }
    if dice.random() < 0.5:
        workload |= {"arrival": "closed", "outstanding": dice.choice([1, 1, 3])}
    else:
        spacing = dice.choice(["poisson", "even"])
        workload |= {"arrival": "open", "rate": dice.choice([1, 5, 20]), "spacing": spacing}
    consensus = {
        "window": 1 if workload["arrival"] == "closed" else dice.choice([1, 4]),
        "batch_timeout": dice.choice(["0 ms", "5 ms"]),
        "batch_size": dice.choice([1, 2, 100]),
        "checkpoint_interval": interval,
        "log_window": log,
        "snapshot_interval": dice.choice([0, interval, 8 * interval]),
        "view_change_timeout": dice.choice(["1 s", "10 s"]),
        "client_timeout": "30 s",
    }
    if dice.random() < 0.2:
        consensus["status_interval"] = "300 ms"
    network = {"nodes": dice.choice([2, 3, 4, 5, 6, 7, 10, 13, 16]), "links": links}
    if dice.random() < 0.2:
        network["client_links"] = {"model": "uniform", "low": "1 ms", "high": "30 ms"}
    given = {
        "seed": number,
        "network": network,
        "nodes": {"cpu": "none"},
        "consensus": consensus,
        "workload": workload,
    }
    without_some(given, dice, 0.5, ["0 ms", "33 ms", "444 ms", "3 s"])
    return Scenario.model_validate(given)


def ties(number: int) -> Scenario:
    """The scenario of that number in which much happens in one nanosecond: constant links, and loads and timers in step
    with them."""
    dice = random.Random(number)
    network = {
        "nodes": dice.choice([2, 3, 4, 4, 5, 7, 10]),
        "links": {"model": "constant", "delay": dice.choice(["5 ms", "5 ms", "10 ms", "1 ms"])},
    }
    if dice.random() < 0.3:
        network["client_links"] = {"model": "constant", "delay": dice.choice(["5 ms", "10 ms"])}
    workload = {
        "kind": "synthetic",
        "transactions": dice.choice([7, 20, 40]),
        "payload_bytes": 0,
        "clients": dice.choice([1, 1, 2, 3]),
    }
    if dice.random() < 0.6:
        workload |= {"arrival": "closed", "outstanding": dice.choice([1, 2, 3])}
    else:
        workload |= {"arrival": "open", "rate": dice.choice([10, 20, 50, 100]), "spacing": "even"}
    interval = dice.choice([1, 2, 4, 16])
    log = dice.choice([interval + 3, 2 * interval + 2, 4 * interval])
    consensus = {
        "window": min(log, dice.choice([1, 1, 2, 4])),
        "batch_timeout": dice.choice(["0 ms", "5 ms", "10 ms", "15 ms"]),
        "batch_size": dice.choice([1, 2, 3]),
        "checkpoint_interval": interval,
        "log_window": log,
        "snapshot_interval": dice.choice([0, interval, 8 * interval]),
        "view_change_timeout": dice.choice(["1 s", "10 s"]),
        "client_timeout": "30 s",
    }
    if dice.random() < 0.3:
        consensus["status_interval"] = dice.choice(["20 ms", "50 ms", "300 ms"])
    return Scenario.model_validate(
        {
            "seed": number,
            "network": network,
            "nodes": {"cpu": "none"},
            "consensus": consensus,
            "workload": workload,
        }
    )


def wild(number: int) -> Scenario:
    """The scenario of that number in which something happens that the compiled engine does not go through with: a
    primary that is silent or crashes, members that come back, writes that are torn, clients that are cut off, messages
    that are copied or held up, clocks that drift."""
    dice = random.Random(f"wild {number}")
    given = settings_of(number)
    given["workload"] |= {"payload_bytes": dice.choice([0, 10, 1000]), "transactions": dice.choice([40, 200])}
    given["consensus"] |= {
        "view_change_timeout": dice.choice(["1 s", "3 s"]),
        "client_timeout": dice.choice(["1 s", "4 s", "30 s"]),
        "batch_size": dice.choice([1, 10, 100]),
    }
    given["network"]["nodes"] = nodes = dice.choice([4, 5, 7, 10])
    if given["network"].get("bandwidth") == "2 Mbit/s":
        given["network"]["bandwidth"] = "20 Mbit/s"
    one, other = dice.sample([f"replica.{k}" for k in range(nodes)], 2)
    when = {"at": dice.choice(["0 ms", "33 ms", "250 ms"]), "for": dice.choice(["10 ms", "400 ms", "5 s"])}
    happens = dice.choice(
        [
            {"at": when["at"], "crash": "replica.0"},
            when | {"crash": "replica.0"},
            when | {"crash": one, "torn": dice.random() < 0.3},
            when | {"crash": f"replica.{dice.randrange(nodes)}"},
            when | {"partition": [["client.0", one]]},
            when | {dice.choice(["reorder", "spike", "duplicate"]): 0.2, "spread": "30 ms"},
            when | {"drift": one, "factor": dice.choice([0.5, 3])},
            None,
        ]
    )
    if happens is None:
        given["byzantine"] = [{"node": "replica.0", "behaviour": "silent"}]
    else:
        given["fault"] = [happens]
    if dice.random() < 0.3:
        given.setdefault("fault", []).append(
            dice.choice(
                [
                    {"at": "100 ms", "for": "1 s", "slow": other, "factor": 3},
                    {"at": "20 ms", "for": "1 s", "partition": [[other]]},
                    # With two down of five nothing would go on.
                    *([{"at": "20 ms", "crash": other}] if nodes >= 7 else []),
                ]
            )
        )
    if dice.random() < 0.2:
        given["network"]["loss"] = dice.choice([0.0005, 0.01])
    return Scenario.model_validate(given)


def led(number: int) -> Scenario:
    """The scenario of that number in which another primary leads soon, and perhaps one after it; then something else
    happens."""
    dice = random.Random(f"led {number}")
    nodes = dice.choice([4, 7, 10])
    interval = dice.choice([2, 4, 8])
    network = {"nodes": nodes, "links": dice.choice(LINKS[2:5])}
    if dice.random() < 0.3:
        network["bandwidth"] = "100 Mbit/s"
    if dice.random() < 0.2:
        network["loss"] = 0.001
    happens = dice.choice(
        [
            [{"at": "50 ms", "crash": "replica.0"}],
            [{"at": "50 ms", "for": "700 ms", "crash": "replica.0"}],
            [{"at": "50 ms", "for": "300 ms", "partition": [["replica.0"]]}],
            [{"at": "0 ms", "crash": "replica.0"}, {"at": "1500 ms", "for": "500 ms", "crash": "replica.1"}],
            [{"at": "50 ms", "for": "500 ms", "slow": "replica.0", "factor": 200}],
            [],
        ]
    )
    if happens and dice.random() < 0.4 and nodes > 4:
        other = {"at": "1700 ms", "crash": f"replica.{nodes - 1}"}
        happens.append(other if dice.random() < 0.5 else other | {"for": "400 ms"})
    load = {"kind": "synthetic", "transactions": 400, "clients": dice.choice([1, 3])}
    if dice.random() < 0.5:
        load |= {"arrival": "closed", "outstanding": dice.choice([1, 5])}
    else:
        load |= {"arrival": "open", "rate": 150}
    return Scenario.model_validate(
        {
            "seed": number,
            "network": network,
            "nodes": {"cpu": dice.choice(["none", "measured"])},
            "consensus": {
                "batch_size": dice.choice([1, 10]),
                "window": dice.choice([1, 4]),
                "checkpoint_interval": interval,
                "log_window": 2 * interval,
                "snapshot_interval": dice.choice([0, interval, 4 * interval]),
                "view_change_timeout": "150 ms",
                "client_timeout": dice.choice(["200 ms", "500 ms"]),
            },
            "fault": happens,
            "byzantine": [] if happens else [{"node": "replica.0", "behaviour": "silent"}],
            "workload": load,
        }
    )
