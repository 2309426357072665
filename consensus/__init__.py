"""HOW it is agreed.

A replica is a state machine without clock, chance or I/O: ``effects = replica.step(now, input)`` (see `interface`).
The caller owns time, the network, the disk and the ledger, and has four duties:

1. hand in one input at a time, each message only after its own signature has been verified (`messages.authentic`);
2. perform the returned effects in order; a ``Persist`` is durable before any later ``Send`` or ``Broadcast`` leaves;
3. answer every ``Committed`` with one ``Executed`` input, in sequence order, from a deterministic application;
4. after a crash, build a new replica and hand in ``Start`` with what was persisted.

Nothing that a peer sends raises out of ``step``. This room orders opaque operations: it knows no trade-finance rule.
"""
