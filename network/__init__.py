"""HOW THEY TALK. The only room with clocks and chance (and, one day, sockets).

`cluster` builds a whole network in virtual time and is where to start reading: `virtual_time` (SimPy's clock with a
lane for messages), `simulated` (the bus: delay, loss, bandwidth, partitions, routes), `node` (a replica with its disk,
processor and application; the only place that knows both a replica and a ledger), `delays`, `links`, `topology`,
`cities` and `faults` (the weather), `costs` (processors), `recorder` and `trace` (what happened).

Everything random is drawn through `chance`: a pure function of the seed, a name and an index. A node performs the
effects of its replica in order; it never looks into it, but for its signer and its configuration.
"""
