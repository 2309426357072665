"""What one event adds to the trace digest, written out: an oracle for whoever mixes many at once."""

from tradebft.network.trace import GOLDEN, LANES

MASK = (1 << 64) - 1


def mix64(x: int) -> int:
    """SplitMix64's finaliser on a Python integer (64 bit)."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def event_value(*fields: int) -> int:
    """The 128-bit value of one event."""
    value = 0
    for lane in LANES:
        h = lane
        for field in fields:
            h = mix64(((h ^ (field & MASK)) + GOLDEN) & MASK)
        value = value << 64 | h
    return value
