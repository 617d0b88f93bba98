"""Published splits: the same rows in any order of the table, and nothing accepted that is no split."""

import numpy as np
import pytest
from datasets import Dataset

from benchmark_utils.data.content import Content, canonical, to_dataset
from benchmark_utils.data.published_splits import canonical_test_rows, listed_test_rows, split_of, splits_hash

X = np.array([[3.0], [1.0], [2.0], [1.0], [5.0]])
Y = np.array([0.3, 0.1, 0.2, 0.1, 0.5])  # rows 1 and 3 are equal


def content(order: list[int]) -> Content:
    return canonical(to_dataset(X[order], Y[order]), "here")


def test_the_rows_and_their_hash_do_not_depend_on_the_order_of_the_table() -> None:
    first, order = content([0, 1, 2, 3, 4]), [4, 3, 0, 2, 1]
    turned = content(order)
    rows = [np.array([0, 1]), np.array([4])]
    # Row r of the first table is row order.index(r) of the other.
    moved = [np.array([order.index(row) for row in part]) for part in rows]
    found, again = canonical_test_rows(first, rows), canonical_test_rows(turned, moved)
    for number, part in enumerate(rows):
        train, test = split_of(first, found, number, "x")
        assert sorted([*train, *test]) == list(range(5))
        assert sorted(first.y[test]) == sorted(Y[part])
        np.testing.assert_array_equal(first.x[test], turned.x[split_of(turned, again, number, "x")[1]])
    assert splits_hash(first, found) == splits_hash(turned, again)
    # Equal rows are not told apart; others are.
    assert splits_hash(first, canonical_test_rows(first, [np.array([0, 3]), np.array([4])])) == splits_hash(
        first, found
    )
    assert splits_hash(first, canonical_test_rows(first, [np.array([0, 2]), np.array([4])])) != splits_hash(
        first, found
    )


@pytest.mark.parametrize("bad", [[0, 0], [5], [-1], [], [0, 1, 2, 3, 4]])
def test_what_is_no_split_is_refused(bad: list[int]) -> None:
    with pytest.raises(ValueError, match="split 1 does not choose among 5 rows"):
        canonical_test_rows(content([0, 1, 2, 3, 4]), [np.array([0]), np.array(bad, int)])


def test_a_table_of_splits_is_read_by_its_columns() -> None:
    table = Dataset.from_dict({"split": [0, 0, 1, 1], "row": [0, 1, 0, 1], "part": ["test", "train", "train", "test"]})
    assert [rows.tolist() for rows in listed_test_rows(table, "x")] == [[0], [1]]
    with pytest.raises(ValueError, match="splits of x need the columns"):
        listed_test_rows(table.rename_column("part", "kind"), "x")


def test_a_split_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="x has 1 published splits"):
        split_of(content([0, 1, 2, 3, 4]), [np.array([0])], 1, "x")
