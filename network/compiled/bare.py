"""A bare loop to compare with: votes through a heap, counted, and nothing else."""

from __future__ import annotations

import numpy as np
from tradebft.network.compiled.compiling import compiled
from tradebft.network.compiled.lane import item_of, pop, push
from tradebft.network.compiled.memory import I64, ITEM_BITS
from tradebft.network.compiled.pointers import begin

ROUNDS = 64  # that are counted at once


@compiled
def votes(nodes: int, quorum: int, delays: I64, messages: int, entries: I64) -> int:
    """Every node broadcasts; whoever counts a quorum of a round starts its next. How many *messages* were delivered.
    *entries* is room for the heap, two numbers an entry.

    One heap entry a message (time; number, receiver and round in one), one count a node and round.
    """
    room, heap = len(entries) // 2, begin(entries)
    counted = np.zeros((nodes, ROUNDS), dtype=np.int64)
    size = number = delivered = 0
    for sender in range(nodes):
        for receiver in range(nodes):
            if receiver != sender:
                number += 1
                push(heap, 0, size, delays[number & 0xFFFF], number << ITEM_BITS | receiver * ROUNDS)
                size += 1
    while size and delivered < messages:
        now, what = heap[0], item_of(heap[1])
        pop(heap, 0, size)
        size -= 1
        delivered += 1
        receiver, round_ = what // ROUNDS, what % ROUNDS
        counted[receiver, round_] += 1
        if counted[receiver, round_] != quorum - 1:
            continue
        following = (round_ + 1) % ROUNDS
        counted[receiver, (round_ + ROUNDS // 2) % ROUNDS] = 0
        for other in range(nodes):
            if other != receiver and size < room:
                number += 1
                order = number << ITEM_BITS | other * ROUNDS + following
                push(heap, 0, size, now + delays[number & 0xFFFF], order)
                size += 1
    return delivered
