"""A workload: quiet days, and everything at once on the last one."""

from collections.abc import Generator
from typing import Any

from tradebft.network.cluster import Cluster

DAY_NS = 86_400 * 10**9


class MonthEnd:
    """In a scenario: kind = "mylab.month_end:MonthEnd" with days = 3, rush = 40. Parameters are the table's keys."""

    def __init__(self, days: int, rush: int) -> None:
        self.days, self.rush = days, rush
        self.clients = ["treasury"]

    def run(self, cluster: Cluster) -> Generator[Any, Any, None]:
        """A SimPy process; the run ends when it returns. One request a day, and `rush` of them on the last."""
        for day in range(self.days):
            requests = self.rush if day == self.days - 1 else 1
            answers = [self.submit(cluster, f"{day}/{k}".encode()) for k in range(requests)]
            yield cluster.env.all_of(answers)
            yield cluster.env.timeout(DAY_NS)

    def submit(self, cluster: Cluster, operation: bytes) -> Any:
        """Send one request; the event succeeds when f+1 replicas have answered alike."""
        answered = cluster.env.event()
        cluster.clients["treasury"].submit(cluster.env.time, operation, "", answered.succeed)
        return answered
