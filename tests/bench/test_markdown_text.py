"""Text that somebody else wrote does not become Markdown of theirs."""

import pytest

from benchmark_utils.report.markdown_text import markdown_text
from benchmark_utils.report.table import markdown_table, text_table


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("walk[steps=3]", r"walk\[steps=3]"),
        (r"a\|b", r"a\\\|b"),
        ("<img src=x>", r"\<img src=x>"),
        ("[x](http://y)", r"\[x](http://y)"),
        ("`code` *bold*", r"\`code\` \*bold\*"),
        ("two\nlines", "two lines"),
        ("0.1 ± 0.2", "0.1 ± 0.2"),
    ],
)
def test_what_markdown_reads_is_escaped_backslashes_first(text, escaped):
    assert markdown_text(text) == escaped


def test_a_table_of_text_shows_it_as_it_stands():
    assert text_table(["a|b"], [["x|y"], [r"x\|y"]]).splitlines() == [
        r"| a\|b |",
        "| --- |",
        r"| x\|y |",
        r"| x\\\|y |",
    ]
    assert markdown_table(["a"], [["*x|y*"]]).splitlines()[2] == r"| *x\|y* |"
