"""A worker process: seeds come in on its standard input, outcomes leave on its standard output, a line each.

Started by `pool` as `python -m tradebft.lab.fuzz.worker OPTIONS`. It ends when its input does, so that no worker
outlives whoever started it.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import Final

import msgspec
from tradebft.lab.fuzz.swarm import Options
from tradebft.lab.fuzz.trial import try_case

COLLECT_EVERY: Final = 10  # trials; each leaves about 5 MB in cycles, and looking for them takes 60 ms


def main(options: Options) -> None:
    """Serve until the input ends."""
    # Whatever a class of the user's own prints must not come between the outcomes.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for number, line in enumerate(sys.stdin):
        try:
            answer = msgspec.json.encode(try_case(options.case(int(line))))
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            answer = msgspec.json.encode(" ".join(text.split()))
        answers.write(answer + b"\n")
        answers.flush()
        if number % COLLECT_EVERY == 0:
            gc.collect()


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1], type=Options))
