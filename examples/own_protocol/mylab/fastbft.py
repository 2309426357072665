"""PBFT with a patient primary: it waits until everything in flight has executed, then proposes all that came meanwhile.

A batch costs n^2 messages however full it is. Where processors are the bottleneck, fewer and fuller batches are faster,
although each of them starts later. Nothing else changes, so safety rests on PBFT's own argument: when to propose is
the primary's free choice.
"""

from tradebft.consensus import pbft
from tradebft.consensus.interface import NOTHING, Effects


class Replica(pbft.Replica):
    """One replica; a scenario names it as `protocol = "mylab.fastbft:Replica"`."""

    def propose(self, now: int) -> Effects:
        """Called whenever a request waits or a batch was executed; here: not while anything is in flight."""
        in_flight = self.next_seq - 1 - self.executed
        if in_flight > 0:
            return NOTHING
        return super().propose(now)
