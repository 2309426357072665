"""A worker process: seeds come in on its standard input, outcomes leave on its standard output, a line each.

Started by `pool` as `python -m tradebft.lab.fuzz.worker OPTIONS`. It ends when its input does, so that no worker
outlives whoever started it.
"""

from __future__ import annotations

import os
import sys

import msgspec
from tradebft.lab.fuzz.swarm import Options
from tradebft.lab.fuzz.trial import try_case


def main(options: Options) -> None:
    """Serve until the input ends."""
    # Whatever a class of the user's own prints must not come between the outcomes.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for line in sys.stdin:
        try:
            answer = msgspec.json.encode(try_case(options.case(int(line))))
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            answer = msgspec.json.encode(" ".join(text.split()))
        answers.write(answer + b"\n")
        answers.flush()


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1], type=Options))
