"""The client table keeps what an honest client may still ask for, and no more."""

from hypothesis import given
from hypothesis import strategies as st
from tradebft.chain.codec import encode
from tradebft.chain.crypto import digest
from tradebft.consensus.pbft.client_table import ClientTable


def test_an_answer_is_kept_by_its_number_not_by_its_age():
    """Requests execute out of order: number 5 first, then 1..4 and a window more. 5 can still be asked for."""
    window = 16
    table = ClientTable(window)
    for sequence in [5, 1, 2, 3, 4, *range(6, 5 + window)]:
        table.mark("bank", sequence)
        table.answer("bank", sequence, sequence, b"digest", b"result")
    assert table.reply("bank", 5) is not None
    assert table.reply("bank", 4) is None
    for sequence in range(5 + window, 5 + 3 * window):
        table.mark("bank", sequence)
        table.answer("bank", sequence, sequence, b"digest", b"result")
    assert table.reply("bank", 5) is None
    assert table.reply("bank", 5 + 2 * window) is not None


def test_a_client_that_jumps_costs_neither_time_nor_memory():
    table = ClientTable(16)
    for sequence in (1, 2, 10**15, 10**15 + 1):
        table.mark("liar", sequence)
        table.answer("liar", sequence, 1, b"digest", b"result")
    assert table.reply("liar", 2) is None
    assert table.reply("liar", 10**15) is not None
    assert table.executed("liar", 1)


def test_the_digest_covers_what_was_executed_and_what_was_answered():
    one, other = ClientTable(16), ClientTable(16)
    one.mark("bank", 1)
    assert one.executed_digest() != other.executed_digest()
    other.mark("bank", 1)
    assert one.executed_digest() == other.executed_digest()
    one.answer("bank", 1, 1, b"yes", b"")
    other.answer("bank", 1, 1, b"no", b"")
    assert one.replies_digest() != other.replies_digest()


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from(["bank", "firm"]), st.integers(1, 40)), max_size=8), max_size=6
    )
)
def test_the_digest_of_the_answers_is_that_of_all_of_them_encoded_at_once(between):
    """However often it was taken before, and whatever went between: what was encoded then is used again."""
    table, seq = ClientTable(8), 0
    for asked in between:
        for client, sequence in asked:
            seq += 1
            table.mark(client, sequence)
            table.answer(client, sequence, seq, b"digest %d" % seq, b"result")
        rows = [
            [client, [[sequence, place, value] for sequence, place, value, _ in answers]]
            for client, answers in table.reply_rows()
        ]
        assert table.replies_digest() == digest("client-replies", encode(rows))
