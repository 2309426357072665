"""Quantities are read exactly, keys are found on their lines, and slips of the pen are recognised."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tradebft.scenarios import units
from tradebft.scenarios.errors import nearest
from tradebft.scenarios.lines import key_lines, opening_comment


class TestUnits:
    @given(st.integers(0, units.MAXIMUM_NS))
    def test_a_duration_written_and_read_is_the_same(self, ns):
        assert units.duration_ns(units.duration_text(ns)) == ns

    @given(st.integers(1, 10**15))
    def test_bandwidths_and_sizes_likewise(self, amount):
        assert units.bandwidth_bps(units.bandwidth_text(amount)) == amount
        assert units.size_bytes(units.size_text(amount)) == amount

    def test_decimals_are_exact(self):
        assert units.duration_ns("0.1 s") == 100_000_000
        assert units.duration_ns("1_000.5us") == 1_000_500
        assert units.size_bytes("64 KiB") == 65536
        assert units.bandwidth_bps("1.5 Gbit/s") == 1_500_000_000

    @pytest.mark.parametrize(
        "text", ["", "5", "ms", "-5 ms", "1e3 ms", "5 ms ms", "99999999 days", None, 5, "٣ ms"]
    )
    def test_what_is_no_duration(self, text):
        with pytest.raises(ValueError, match="expected a duration"):
            units.duration_ns(text)

    @pytest.mark.parametrize("text", ["day 0", "day 3 25:00", "day 3 10:60", "day", "", " ", "noon"])
    def test_what_is_no_moment(self, text):
        with pytest.raises(ValueError, match="expected a duration since the start"):
            units.moment_ns(text)

    def test_moments(self):
        assert units.moment_ns("day 2") == units.DAY_NS
        assert units.moment_ns("09:30:05") == 9 * units.HOUR_NS + 30 * units.MINUTE_NS + 5 * units.SECOND_NS
        assert units.moment_ns("2 days") == 2 * units.DAY_NS


class TestLines:
    def test_keys_stand_where_they_stand(self):
        text = """\
# comment = 1
a = "x # no comment ] = }"   # b = 2
b.c = '''
d = 3
'''
"quoted key" = [1, 2,
  { e = 5 }]
[t]  # header
x = { y = 1, z = { w = '}' } }
[[f]]
at = 1
[[f]]
at = \"\"\"
\\" = 5 \"\"\"
[f.deep]
k = 1
"""
        lines = key_lines(text)
        assert lines[("a",)] == 2
        assert lines[("b", "c")] == 3
        assert ("d",) not in lines
        assert lines[("quoted key",)] == 6
        assert lines[("quoted key", 2, "e")] == 7
        assert lines[("t", "x", "z", "w")] == 9
        assert (lines[("f", 0, "at")], lines[("f", 1, "at")]) == (11, 13)
        assert lines[("f", 1, "deep", "k")] == 16

    def test_an_opening_comment_ends_with_the_first_other_line(self):
        assert opening_comment("# a\n#  b\n\n# c\nx = 1") == "a b"
        assert opening_comment("x = 1") == ""


def test_nearest_is_a_slip_of_the_pen_or_nothing():
    assert nearest("batch_sise", ["batch_size", "window"]) == "batch_size"
    assert nearest("Guizhou", ["guizhou"]) == "guizhou"
    assert nearest("entirely different", ["batch_size", "window"]) is None
