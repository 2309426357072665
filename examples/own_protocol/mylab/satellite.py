"""A link model: everything through a satellite, with an extra delay that is exponential and depends on the sender."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tradebft.network.elementary import log


@dataclass(frozen=True)
class Satellite:
    """In a scenario: links = { model = "mylab.satellite:Satellite", hop_ms = 250 }. Parameters are the table's keys."""

    hop_ms: int
    jitter_ms: float = 10.0

    @property
    def minimum_ns(self) -> int:
        """No delay is shorter: this is how far the simulator may look ahead."""
        return self.hop_ms * 1_000_000

    def delays(self, sender: int, receivers: NDArray[np.int64], u: NDArray[np.float64]) -> NDArray[np.int64]:
        """One delay for each uniform draw, growing with it, of the shape of `u`; `u[..., j]` is for `receivers[j]`."""
        weather = self.jitter_ms * (1 + sender % 3)
        jitter: NDArray[np.int64] = np.rint(-weather * 1e6 * log(1 - u)).astype(np.int64)
        return self.minimum_ns + jitter
