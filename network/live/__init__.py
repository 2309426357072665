"""The same replicas on real machines: asyncio, sockets and disks.

`envelope` is what travels: sealed by its sender, bound to chain, topic and sequence. `bus` says what carries it,
`local` carries it within one process. `port` is a member's door to the bus; `member` runs a replica behind it, `client`
a client. `kept` is a member's disk, `founding` what a network starts from, `clock` its time. The room is the network's:
nothing here knows a scenario, and nothing in `chain` or `consensus` knows that time is real.
"""
