"""The compiled engine: PBFT's normal case, message by message, over arrays (numba).

It is no second model. Every rule here is a rule of `consensus.pbft` with what cannot happen left out: one view, honest
replicas that do not come back from a crash. Where a run leaves that ground (`Uncovered`), it says so and stops; nobody
gets a number that the reference would not have given. On what it covers the trace digest is that of the reference.

    memory, places, pointers    one buffer of numbers, where what stands in it, how compiled functions hand it on
    lane                        the queue of messages and alarms, in the order of `VirtualTime`
    rules                       what a replica does with one input, but for
    asking, catching_up         what it does about what it misses, and for others that miss something
    leaving                     what leaves a replica, with all that may happen to it on the way
    kernel                      the loop, until somebody outside is needed: a request is answered, a batch is executed
    cluster, scribe, mishaps    Python around the loop, as a `Cluster` for the scenarios; what batches contain; faults
    drawing, digest, rounds     delays, the trace digest, and the picture of one round, in bulk
    compiling, mixing           how functions are compiled, and the hash that draws and digest are made of
    matrices                    the digest of the wavefront engine's matrices
    bare                        a loop to compare with
"""
