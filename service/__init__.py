"""A member that serves for years: what an institution's operators run, watch and ask.

`settings` is a node's file, `node` the process (start, damaged disk, stop), `watch` its health and metrics, `log` its
log. `consortium` makes a new network: everybody's keys, what they agree on, and a broker's configuration. `asking` is a
client that submits and asks, `proof` what it can show to others. `calibrate` measures the machine, `validate` how well
the simulator predicted it.

The replica, the ledger and the bus are those of `network`; nothing here decides anything about the protocol.
"""
