"""The compiled engine: PBFT's normal case, message by message, over arrays (numba).

It is no second model. Every rule here is a rule of `consensus.pbft` with what cannot happen left out: one view, honest
replicas, a network that loses nothing. Where a run leaves that ground (`Uncovered`), it says so and stops; nobody gets
a number that the reference would not have given. On what it covers the trace digest is the reference's, to the bit.

    memory   the arrays, and the names of their places
    lane     the queue of messages and alarms, in the order of `VirtualTime`
    rules    what a replica does with one input
    kernel   the loop: until somebody outside is needed (a request is answered, a batch is to be executed)
    scribe   what batches contain, what executing them gives, what digests they have
    cluster  all of it as a `Cluster`, for the scenarios
"""
