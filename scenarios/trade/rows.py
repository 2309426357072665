"""Rows of the applications and stages tables, as an arm fills them in."""

from __future__ import annotations

from typing import Any

from tradebft.scenarios.trade.workload import Application
from tradebft.scenarios.units import DAY_NS, MILLISECOND_NS


class Rows:
    """What one arm leaves behind."""

    def __init__(self, arm: str, members: frozenset[str]) -> None:
        self._arm, self._members = arm, members
        self.applications: dict[int, tuple[Any, ...]] = {}
        self.stages: list[tuple[Any, ...]] = []

    def stage(self, application: int, stage: str, begin_ns: int, end_ns: int, waiting_ns: int) -> None:
        """One stage of one application."""
        self.stages.append((self._arm, application, stage, begin_ns, end_ns, waiting_ns))

    def finished(
        self, a: Application, at_ns: int, outcome: str, code: str = "", ledger_ns: int | None = None
    ) -> None:
        """The application ends: disbursed, rejected, or (at_ns = -1) unfinished."""
        days = (at_ns - a.at_ns) / DAY_NS if outcome == "disbursed" else None
        self.applications[a.number] = (
            self._arm,
            a.number,
            a.firm.id,
            a.bank,
            a.bank in self._members,
            a.new_customer,
            a.currency,
            a.amount,
            len(a.declarations),
            a.at_ns,
            at_ns,
            days,
            outcome,
            code,
            a.kind,
            None if ledger_ns is None else ledger_ns / MILLISECOND_NS,
        )
