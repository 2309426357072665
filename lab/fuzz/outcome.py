"""What came of a trial."""

from __future__ import annotations

import msgspec
from tradebft.consensus.invariants import Violation

Counts = dict[str, int]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one trial: the same for the same case, in any process, on any machine."""

    seed: int
    nodes: int
    violations: list[Violation]  # in the order in which they were seen; the trial ends with the first
    virtual_ns: int
    messages: int
    kinds: Counts  # of messages
    digest: str  # of everything that happened
    injected: Counts  # how often each kind of fault bit
    coverage: Counts  # what the trial reached
    evidence: Counts  # accusations by what was held against the member, numbers left out
    refusals: Counts  # inputs that honest members ignored, by reason

    @property
    def first(self) -> Violation | None:
        """The first broken invariant, if any."""
        return self.violations[0] if self.violations else None
