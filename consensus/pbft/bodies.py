"""Batches by digest.

A view change carries digests only, so whoever accepted a batch keeps it until its sequence is stable. A primary that
proposes ever new batches for one sequence, view after view, must not fill the memory with them.
"""

from __future__ import annotations

from tradebft.consensus.messages import Batch


class Bodies:
    """At most *limit* batches a sequence. The newest stay, and the one that this replica has a certificate for.

    With limit f+2 a batch goes only after f+1 later views proposed others at its sequence: whoever still holds a
    certificate for it holds the batch too (Castro's library keeps as many, for the same reason).

    A primary may propose one batch at two sequences. It stays for as long as either needs it: were it to go with the
    lower one's checkpoint, nobody could execute the higher one any more, which may be prepared everywhere.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._batches: dict[bytes, Batch] = {}
        self._uses: dict[bytes, int] = {}  # digest -> at how many sequences it is kept
        self._at: dict[int, list[bytes]] = {}  # sequence -> digests, oldest first

    def __len__(self) -> int:
        return len(self._batches)

    def get(self, digest: bytes) -> Batch | None:
        """The batch of *digest*; None if it is not here."""
        return self._batches.get(digest)

    def keep(self, seq: int, batch: Batch, certified: bytes | None = None) -> None:
        """Remember *batch* at *seq*; *certified* is the digest there that must not go."""
        digest = batch.digest
        here = self._at.setdefault(seq, [])
        if digest in here:
            here.remove(digest)
        else:
            self._batches[digest] = batch
            self._uses[digest] = self._uses.get(digest, 0) + 1
        here.append(digest)
        if len(here) > self._limit:
            gone = next(held for held in here if held != certified)
            here.remove(gone)
            self._release(gone)

    def drop_up_to(self, seq: int) -> None:
        """A checkpoint became stable."""
        for number in [s for s in self._at if s <= seq]:
            for digest in self._at.pop(number):
                self._release(digest)

    def _release(self, digest: bytes) -> None:
        self._uses[digest] -= 1
        if not self._uses[digest]:
            del self._uses[digest], self._batches[digest]
