"""Tuning: the best settings of a scenario for one goal or several, within limits.

`space` says what may be changed and how far, `goals` what is wanted, `study` looks for it, `figure` draws what was
found."""

from tradebft.lab.tune.goals import Goal, Limit, goal_of, limit_of
from tradebft.lab.tune.space import Dimension, dimensions
from tradebft.lab.tune.study import Tuned, save, tune

__all__ = ["Dimension", "Goal", "Limit", "Tuned", "dimensions", "goal_of", "limit_of", "save", "tune"]
