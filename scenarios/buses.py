"""Over which bus a scenario may run, and what it takes: checked before anything of a real network is loaded.

What only virtual time can do is refused; what a real bus does in its own way is said beforehand (`remarks`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tradebft.scenarios.errors import ScenarioError, one_of, suggestion
from tradebft.scenarios.schema import Scenario, TradeFinance

if TYPE_CHECKING:
    from tradebft.chain.crypto import Signer
    from tradebft.network.live.bus import LiveBus
    from tradebft.network.live.founding import Founding

BUSES: Final = ("simulated", "local", "mqtt")


class There(NamedTuple):
    """A network that runs already, founded for a scenario (`live.recorded_founding`), and how to reach it."""

    founding: Founding
    signer: Signer
    bus: Callable[[], LiveBus]
    number: Callable[[], int]


class Broker(NamedTuple):
    """A broker that is there already: its address, and the file of certificates that it must descend from."""

    url: str
    ca: Path | None = None


def broker_of(url: str | None, ca: str | Path | None) -> Broker | None:
    """What a command line names. ScenarioError for certificates of no broker."""
    if url is None and ca is not None:
        raise ScenarioError(f"broker: {ca} holds certificates, expected the broker's address too")
    return None if url is None else Broker(url, None if ca is None else Path(ca))


def check(scenario: Scenario, bus: str, broker: Broker | None = None, there: There | None = None) -> None:
    """ScenarioError, in one line, where *scenario* cannot run over *bus*."""
    if bus not in BUSES:
        raise ScenarioError(f"{scenario.name}: bus {bus!r}: {one_of(BUSES)}{suggestion(bus, BUSES)}")
    if broker is not None and bus != "mqtt":
        raise ScenarioError(f"{scenario.name}: a broker is for bus mqtt, not {bus}")
    if there is not None and (bus != "mqtt" or broker is not None):
        raise ScenarioError(
            f"{scenario.name}: a network that is there is for bus mqtt, and names its brokers"
        )
    if there is not None:
        with_ledger(scenario)
    if bus == "simulated":
        return
    _check_broker(scenario, broker)
    virtual = {
        "[[fault]]": scenario.faults,
        "[[byzantine]]": scenario.byzantine,
        "[[membership]]": scenario.membership,
        "[vary]": scenario.vary,
        f"consensus.protocol = {scenario.consensus.protocol!r}": scenario.consensus.protocol != "pbft",
        "network.topology other than mesh": scenario.network.topology != "mesh",
        f"workload.kind = {scenario.workload.kind!r}": scenario.workload.kind
        not in ("synthetic", "trade-finance"),
    }
    for what, present in virtual.items():
        if present:
            raise ScenarioError(f"{scenario.name}: {what} needs the simulated bus, expected none over {bus}")


def _check_broker(scenario: Scenario, broker: Broker | None) -> None:
    if broker is None:
        return
    from tradebft.network.live.mqtt import Tls, address_in

    try:
        address_in(broker.url)
        Tls(broker.ca).context()
    except (OSError, ValueError) as error:  # of what is no certificate, too
        where = f"{broker.ca}: " if broker.ca is not None and not isinstance(error, ValueError) else ""
        raise ScenarioError(f"{scenario.name}: {where}{' '.join(str(error).split())}") from None


def remarks(scenario: Scenario, bus: str) -> list[str]:
    """What a real bus does in its own way, one line each."""
    if bus == "simulated":
        return []
    found = []
    if left := sorted(set(scenario.expect) - set(judged(scenario, bus))):
        found.append(f"expect: not judged over {bus}, where blocks are replayed: {', '.join(left)}")
    if scenario.network.bandwidth_bps is not None:
        found.append(f"network.bandwidth does not bind over {bus}: the machine's own does")
    if bus == "mqtt" and not instant(scenario):
        found.append("network.links and network.loss are not added over mqtt: the broker's own delay counts")
    return found


def judged(scenario: Scenario, bus: str) -> dict[str, Any]:
    """What is expected of a run over *bus*. Blocks that are replayed as fast as they go say nothing of latency."""
    if bus == "simulated" or not isinstance(scenario.workload, TradeFinance):
        return dict(scenario.expect)
    timed = ("consensus.", "throughput.")
    return {key: value for key, value in scenario.expect.items() if not key.startswith(timed)}


def with_ledger(scenario: Scenario) -> TradeFinance:
    """Its workload. ScenarioError where it has no ledger."""
    if not isinstance(scenario.workload, TradeFinance):
        raise ScenarioError(f"{scenario.name}: expected a scenario of trade finance, which has a ledger")
    return scenario.workload


def instant(scenario: Scenario) -> bool:
    """Whether the scenario adds no delay and no loss of its own."""
    links, outer = scenario.network.links, scenario.network.client_links
    still = all(getattr(one, "delay_ns", 1) == 0 for one in (links, outer) if one is not None)
    return still and not scenario.network.loss
