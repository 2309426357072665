"""WHAT IS RUN.

`*.toml` is the catalogue; `schema` (with `sections`, `demand`, `units`, `loading`, `consistency`, `explain`) turns a
file into a typed `Scenario`, or into one line that says what is wrong. `run.execute(scenario) -> Records` puts a run
together: `simulation` builds the network, `synthetic` or `trade` the load, `collect` what it leaves behind. `trade/`
holds the province: its calendar, firms, applications and frauds, and the three arms.

Nothing here computes a metric: records are plain rows, and `lab` reads them.
"""
