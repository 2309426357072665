"""chain: WHAT is agreed on.

A block is a batch of signed transactions at a height; the ledger is what executing the batches in order leads
to. Everything in this room is a pure function of its arguments: no clock (time is the block's), no chance, no
sockets, no threads. Replicas that apply the same batches have the same roots, byte for byte. (Two files
touch the world, and nothing else here uses them: key files in crypto.py, a member's disk in store.py.)

    codec.py        one encoding per value (canonical MessagePack), limits against hostile input
    crypto.py       digests, keyed tokens, identities (Ed25519 or modelled), votes and quorum certificates,
    key files transaction.py  the signed envelope of a business action
    block.py        headers, Merkle proofs (RFC 6962), why a block does not follow its parent
    genesis.py      what a chain starts from
    ledger.py       Ledger.apply(height, time_ns, transactions) -> Applied(receipts, changes); then Ledger.state_root
    receipt.py      what a sender is told, and what the record keeps
    state.py        tables with an undo journal; tree.py: the Merkle map that gives their root;
                    pages.py: their rows as snapshots hold them
    store.py        a member's durable memory: one SQLite file of opaque bytes in which damage shows
                    (store_file.py: its tables and how it is opened; wal.py: what a log says after a crash;
                    store_rescue.py: a damaged one made whole again)
    rules/          trade finance: one module a group of transaction types (its own manual is in rules/__init__.py)

How a transaction is made, executed and answered:

    signers, keyring = make_identities(names, "modelled", seed)
    genesis = Genesis(b"guizhou", members_of(names, keyring, validators), firms=known_firms)
    ledger = Ledger(genesis, keyring)
    tx = sign(FinReserve(application), signers[bank], chain_id=b"guizhou", sequence=7, expiry_height=900)
    applied = ledger.apply(1, block_time_ns, [tx.encode()])
    applied.receipts[0].code        # "OK", or one of rules.context.CODES

The caller's duties:

1. Apply batches in order of height, each once. A wrong height is a ValueError; nothing else a batch can hold
is. 2. Hand in the block time the members agreed on, never a local clock.
3. Treat `ledger.state` as read-only. Objects in it never change; rules put new ones in their place.
4. Check signatures of *votes* elsewhere (consensus does); signatures of transactions are checked here.
5. Compare `state_root` with the other replicas (checkpoints do).

Kinds of wrong: what a sender did is a receipt with a code; bytes that do not decode are CodecError; a
caller's mistake is a ValueError; what cannot be is an assertion. Nothing a transaction holds can raise out of
`apply`.
"""
