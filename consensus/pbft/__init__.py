"""PBFT, signature variant (Castro and Liskov, OSDI 1999).

`replica` is the state machine: one table from input to handler, the normal case, and the flow of a view change.
`slots` counts votes, `checkpoint` makes certificates stable, `view_change` holds the pure rules (is this ViewChange
valid, what must the new primary propose), `waiting` remembers whose request is oldest, `client_table` keeps
exactly-once, `recovery` catches up after loss and restarts.
"""

from tradebft.consensus.pbft.replica import Replica

__all__ = ["Replica"]
