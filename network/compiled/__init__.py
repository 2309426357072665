"""The compiled engine: PBFT's normal case, message by message, over arrays (numba).

It is no second model. Every rule here is a rule of `consensus.pbft` with what cannot happen left out: one open view,
honest replicas that do not come back from a crash. Where a run leaves that ground, the reference goes on until it is
back. Nobody gets a number that the reference would not have given: the trace digest is the same.

    memory, places, pointers    one buffer of numbers, where what stands in it, how compiled functions hand it on
    lane                        the queue of messages and alarms, in the order of `VirtualTime`
    rules                       what a replica does with one input, but for
    asking, catching_up         what it does about what it misses, and for others that miss something
    clients                     what the primary remembers of each client
    leaving                     what leaves a replica, with all that may happen to it on the way
    kernel                      the loop, until somebody outside is needed: a request is answered, a batch is executed
    cluster, scribe, mishaps    Python around the loop, as a `Cluster` for the scenarios; what batches contain; faults
    ahead, drawing              delays, drawn ahead
    digest, rounds              the trace digest, and the picture of one round, in bulk
    beyond                      what is not covered, noticed before it happens
    continued, replicas, messages    the run handed over: the reference's network as it would stand by now
    settled, returning          and taken back: whether that can be gone on with, and its objects as memory again
    turns                       when it is worth while, and who had the run when
    compiling, mixing           how functions are compiled, and the hash that draws and digest are made of
    matrices                    the digest of the wavefront engine's matrices
    bare                        a loop to compare with
"""
