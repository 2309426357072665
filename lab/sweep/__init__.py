"""Sweeps: one scenario at many points of a grid, each under several seeds, on as many processors as there are.

`plan` says which runs there are, `row` does one, `crew` does them side by side, `journal` keeps what is done, `table`
makes sense of it and `figure` draws it. `sweep` is all of them in order.
"""

from tradebft.lab.sweep.plan import Plan, planned
from tradebft.lab.sweep.sweep import Sweep, merge, sweep

__all__ = ["Plan", "Sweep", "merge", "planned", "sweep"]
