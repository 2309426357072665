"""PBFT's normal case as order statistics: a batch at a time, instead of a message at a time.

Where no processor makes messages wait and no two batches are under way at one member at once, all that a batch leads to
follows from when it is proposed and how long each copy takes: a replica is prepared when the right number of Prepares
are in, the k-th smallest of their arrivals, and so on. `order` says it in arrays; `cluster` feeds it and notices where
the assumption does not hold.
"""
