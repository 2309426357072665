"""What is allowed in a scenario and probably not meant: a line each, which names what would help.

Estimates, on the safe side: they say that something may go wrong, or will, not how a run turns out.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from tradebft.chain.codec import encode
from tradebft.chain.crypto import QuorumCertificate
from tradebft.consensus.byzantine.noise import Flood
from tradebft.consensus.messages import Prepared, PrePrepare
from tradebft.network.simulated import sending_ns
from tradebft.scenarios import units
from tradebft.scenarios.adversaries import too_many
from tradebft.scenarios.schema import CustomLinks, Graph, Network, Scenario, Synthetic, TradeFinance
from tradebft.scenarios.simulation import cpu_costs, wire

MANY_MESSAGES: Final = 3e7
"""Of which the reference simulates 60,000 to 100,000 a second."""

SAMPLED: Final = 32
"""Members that are looked at, evenly chosen, where there are more."""


def remarks(scenario: Scenario, bus: str = "simulated") -> list[str]:
    """All that there is to say of a run over *bus*. A real one has processors and interfaces of its own, and over MQTT
    links as well."""
    found = [_no_faults(scenario), too_many(scenario), _needless_buffer(scenario)]
    if bus != "mqtt":
        votes = 2 * round_of_votes_ns(scenario)
        found += [_nothing_arrives(scenario), _slow_votes(scenario, votes), _hasty_clients(scenario, votes)]
    if bus == "simulated":
        found += [_long_changes(scenario), _long_flood(scenario)]
    return [words for words in found if words]


def _no_faults(scenario: Scenario) -> str | None:
    n = len(scenario.node_names)
    if n >= 4:
        return None
    return f"{n} node{' tolerates' if n == 1 else 's tolerate'} no fault: f = 0 below 4 nodes"


def _needless_buffer(scenario: Scenario) -> str | None:
    network = scenario.network
    if network.bandwidth_bps is None and network.buffer != Network().buffer:
        return "network.buffer bounds what waits for network.bandwidth, which is unlimited"
    return None


def _nothing_arrives(scenario: Scenario) -> str | None:
    if scenario.network.loss == 1:
        return "network.loss is 1: no message arrives, and nobody is ever answered"
    return None


def _slow_votes(scenario: Scenario, votes: int) -> str | None:
    waits = scenario.consensus.batch_timeout_ns
    allowed = scenario.consensus.view_change_timeout_ns
    limit = f"and consensus.view_change_timeout is {units.duration_text(allowed)}"
    if votes >= allowed:
        return (
            f"Prepares and Commits take {_about(votes)} over these links, {limit}: "
            "views change without any fault; a longer timeout helps"
        )
    if waits and waits + votes >= allowed:
        return (
            f"a request may wait {units.duration_text(waits)} for others (consensus.batch_timeout), {limit}: whoever "
            "hears of it from its client suspects the primary meanwhile; a shorter batch_timeout helps"
        )
    return None


def _hasty_clients(scenario: Scenario, votes: int) -> str | None:
    waits = scenario.consensus.client_timeout_ns
    if votes < waits:
        return None
    return (
        f"Prepares and Commits take {_about(votes)} over these links, and consensus.client_timeout is "
        f"{units.duration_text(waits)}: clients ask every member before anybody can have answered; a longer timeout "
        "helps"
    )


def _long_changes(scenario: Scenario) -> str | None:
    works = {
        f"of checking signatures at each of {len(scenario.node_names)} members": checking_ns(scenario),
        "of network.bandwidth for the NewView": new_view_ns(scenario),
    }
    most = 2 * scenario.consensus.view_change_timeout_ns  # what the second view in a row is given
    long = [f"{_about(takes)} {what}" for what, takes in works.items() if takes > most]
    if not long:
        return None
    return (
        f"a change of view may take {' and '.join(long)}, more than twice consensus.view_change_timeout: "
        "under load one view may fail after another; a lower consensus.checkpoint_interval helps"
    )


def _long_flood(scenario: Scenario) -> str | None:
    load, lasts, sent = scenario.workload, scenario.duration_ns, 0.0
    if isinstance(load, Synthetic) and load.rate is not None:
        lasts = min(lasts, round(load.transactions / load.rate * units.SECOND_NS))
    elif not isinstance(load, TradeFinance):
        return None  # nobody knows: it ends with the last reply
    for one in scenario.byzantine:
        if one.behaviour == "flood":
            until = lasts if one.for_ns is None else min(lasts, one.at_ns + one.for_ns)
            rate = one.parameters.get("rate", Flood.defaults["rate"])
            sent += len(one.node) * rate * max(0, until - one.at_ns) / units.SECOND_NS
    messages = sent * (len(scenario.node_names) - 1)
    if messages < MANY_MESSAGES:
        return None
    return (
        f"the flood is of {messages / 1e6:,.0f} million messages, which take long to simulate: "
        'a "for", a lower "rate" or fewer days help'
    )


def _about(ns: int) -> str:
    return f"{ns / 1e9:.1f} s" if ns >= 10**8 else f"{ns / 1e6:.2g} ms"


# --- how long things take ---


def round_of_votes_ns(scenario: Scenario) -> int:
    """Until a typical member has heard q - 1 others who vote at the same moment, by the median delay of each link.

    0 for links of the user's own and for graphs: of them nobody knows without a run.
    """
    n = len(scenario.node_names)
    if (
        n < 2
        or isinstance(scenario.network.links, CustomLinks)
        or isinstance(scenario.network.topology, Graph)
    ):
        return 0
    made = wire(scenario, [])
    heard = []
    for member in range(0, n, math.ceil(n / SAMPLED)):
        others = np.delete(np.arange(n), member)
        if made.topology.relays:  # through the broker, which comes last
            there = made.links.delays(member, np.array([n]), np.full(1, 0.5))
            delays = there + made.links.delays(n, others, np.full(n - 1, 0.5))
        else:
            delays = made.links.delays(member, others, np.full(n - 1, 0.5))  # as long there as back
        heard.append(np.sort(delays)[scenario.quorum - 2])
    return int(np.median(heard))


def checking_ns(scenario: Scenario) -> int:
    """How long a change of view may keep each processor busy, at most: everybody else's ViewChange has a certificate
    (q-1 Prepares and the proposal) for each of up to K batches since the last checkpoint."""
    cpu, n = cpu_costs(scenario), len(scenario.node_names)
    if cpu is None:
        return 0
    return (n - 1) * scenario.consensus.checkpoint_interval * scenario.quorum * cpu.verify_ns


def new_view_ns(scenario: Scenario) -> int:
    """How long a NewView may keep its sender's interface busy, at most: to each of the others q ViewChanges with as
    many certificates, and a proposal for each of the batches."""
    signature, value = bytes(64), bytes(32)
    votes = tuple((0, signature) for _ in range(scenario.quorum - 1))
    proposal = PrePrepare(0, 0, value, 0, None, signature)
    prepared = Prepared(proposal, QuorumCertificate("Prepare", 0, 0, value, votes))
    a_batch = scenario.quorum * len(encode(prepared)) + len(encode(proposal))
    to_all = (len(scenario.node_names) - 1) * scenario.consensus.checkpoint_interval * a_batch
    return sending_ns(to_all, scenario.network.bandwidth_bps)
