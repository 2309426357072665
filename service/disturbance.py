"""Other work between two measurements. In a loop of its own every step is faster than among others, since its code and
data stay in the caches: by a third and more on the machines that this was tried on.
"""

from __future__ import annotations

import json
import time
from typing import Final

_DATA: Final = bytes(range(256)) * 4096  # a megabyte: more than the nearest caches hold
_TEXT: Final = json.dumps([{"name": f"n{k}", "values": list(range(20))} for k in range(40)])


def disturb() -> None:
    """Something else, of a third of a millisecond."""
    _DATA.count(b"tradebft")
    json.dumps(json.loads(_TEXT))


def takes(times: int = 300) -> float:
    """What one `disturb` takes, in ns of processor time."""
    begun = time.process_time_ns()
    for _ in range(times):
        disturb()
    return (time.process_time_ns() - begun) / times
