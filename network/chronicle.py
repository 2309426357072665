"""What was decided and what executing it led to, shared by all replicas of one simulation.

Honest replicas would all compute the same thing, so one execution serves them all: the `Chronicle` executes a batch
when the first replica commits it and hands the others the same answer. A replica whose `History` differs gets an
application of its own, so that the difference shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from msgspec.structs import replace
from tradebft.consensus.interface import Committed, Executed
from tradebft.consensus.messages import Decided
from tradebft.consensus.snapshot import Manifest, cut
from tradebft.network.application import Application


class Block(NamedTuple):
    """What was committed at one sequence, and what executing it led to."""

    committed: Committed
    executed: Executed

    @property
    def decided(self) -> Decided:
        return self.committed.decided


NO_BLOCKS: Final[Mapping[int, Block]] = MappingProxyType({})


class Chronicle:
    """The blocks that everybody has in common as far back as anybody may want them, and one application that executed
    them. A member falls behind also where nothing is lost and nobody is down: it only needs more to do than it can.

    *apart*: every replica executes for itself all the same, which costs n times as much and tests the application.
    *application*: one that has executed already, up to the last of *blocks*.
    """

    def __init__(
        self,
        make: Callable[[], Application],
        apart: bool = False,
        application: Application | None = None,
        blocks: Mapping[int, Block] = NO_BLOCKS,
    ) -> None:
        self.make, self.apart = make, apart
        self._application = make() if application is None else application
        self.blocks: dict[int, Block] = dict(blocks)
        self.height = max(blocks, default=0)
        self.checks = self._application.checks
        self._floors: dict[int, int] = {}
        self._pruned = 0

    def advance(self, effect: Committed) -> Executed:
        """Execute the next batch."""
        executed = run(self._application, effect)
        self.blocks[effect.seq] = Block(effect, executed)
        self.height = effect.seq
        return executed

    def resume(self, blocks: Mapping[int, Block]) -> None:
        """Go on where something else stood, that executed these *blocks* with the same application."""
        self.blocks |= blocks
        self.height = max(blocks, default=self.height)

    def hold(self, node: int, floor: int | None) -> None:
        """*node* may still want every block above *floor*; None: it sees to what it wants itself."""
        if floor is None:
            self._floors.pop(node, None)
        else:
            self._floors[node] = floor
        lowest = min(self._floors.values(), default=0)
        for seq in range(self._pruned + 1, lowest + 1):
            self.blocks.pop(seq, None)
        self._pruned = max(self._pruned, lowest)


class History:
    """One replica's view of the chronicle: the shared blocks, or from where it differs its own."""

    def __init__(self, node: int, chronicle: Chronicle) -> None:
        self._node, self._chronicle = node, chronicle
        # What executes for this replica alone, where something does.
        self._own: Application | None = chronicle.make() if chronicle.apart else None
        self._blocks: dict[int, Block] = {}  # that are its own, or that only it still keeps
        self._floor = 0
        chronicle.hold(node, 0)

    @property
    def shared(self) -> bool:
        """Whether this replica has executed what the others have."""
        return self._own is None

    def execute(self, effect: Committed) -> Executed:
        """The execution of what this replica committed."""
        shared = self._chronicle
        if self._own is None:
            if effect.seq == shared.height + 1:
                return shared.advance(effect)
            known = shared.blocks.get(effect.seq)
            if known is not None and known.decided.batch.digest == effect.decided.batch.digest:
                return known.executed
            self._own = self._executed_up_to(effect.seq - 1)
        executed = run(self._own, effect)
        if shared.apart and effect.seq == shared.height + 1:
            shared.advance(effect)
        known = shared.blocks.get(effect.seq)
        if known is not None and known.executed == executed:
            self._own = self._own if shared.apart else None  # level with the others again
        else:
            self._blocks[effect.seq] = Block(effect, executed)
        return executed

    def block(self, seq: int) -> Block | None:
        """The block at *seq*; None if it is not kept."""
        return self._blocks.get(seq) or self._chronicle.blocks.get(seq)

    def install(self, manifest: Manifest, application: tuple[bytes, ...]) -> bytes | None:
        """Take over a snapshot; its root, or None if there is no state in it."""
        self._blocks.clear()
        known = self._chronicle.blocks.get(manifest.seq)
        if (
            not self._chronicle.apart
            and known is not None
            and known.executed.root == manifest.root
            and known.executed.chunks == application
        ):
            self._own = None  # what the others executed is what the snapshot says
            return manifest.root
        restored = self._chronicle.make()
        try:
            root = restored.restore(b"".join(application))
        except ValueError:
            return None
        self._own = restored
        return root

    def forget(self, floor: int) -> None:
        """Nobody will ask this replica for blocks at or below *floor*."""
        self._floor = floor - 1  # the snapshot itself stays: executions of its own would begin there
        self._blocks = {seq: block for seq, block in self._blocks.items() if seq >= floor}
        self._chronicle.hold(self._node, self._floor)

    def crash(self, height: int) -> None:
        """The replica is down: its disk keeps what it has, and the others need not wait for it."""
        for seq in range(self._floor + 1, height + 1):
            block = self.block(seq)
            if block is not None:
                self._blocks[seq] = block
        self._chronicle.hold(self._node, None)

    def recover(self) -> None:
        """It is back."""
        self._chronicle.hold(self._node, self._floor)

    def _executed_up_to(self, height: int) -> Application:
        """An application of its own, from the newest snapshot below or from the beginning."""
        application, replay = self._chronicle.make(), []
        for seq in range(height, 0, -1):
            block = self.block(seq)
            if block is None:
                raise ValueError(f"block {seq} is no longer kept, so another history cannot be executed")
            if block.executed.chunks:
                application.restore(b"".join(block.executed.chunks))
                break
            replay.append(block.committed)
        for committed in reversed(replay):
            application.execute(committed.decided, committed.fresh)
        return application


def run(application: Application, effect: Committed) -> Executed:
    """Execute *effect*, and take the snapshot that it asks for."""
    executed = application.execute(effect.decided, effect.fresh)
    if not effect.snapshot:
        return executed
    return replace(executed, chunks=cut(*application.snapshot()))
