"""Training time and gradients in all: those of the MAP count where a method starts there."""

import numpy as np
import pandas as pd
import pytest

from benchmark_utils.report.training_time import map_share, total_gradients, training_time

ROWS = pd.DataFrame({"fit_s": [1.0, 2.0], "map_s": [10.0, 20.0], "gradients": [3.0, 4.0], "map_grad_evals": [5.0, 6.0]})


@pytest.mark.parametrize(
    "starts", [[True, False], [1.0, 0.0], [np.nan, 0.0], [None, False], ["True", "False"], ["", "0"], [1, 0]]
)
def test_only_a_method_that_says_so_need_not_pay_for_the_map(starts):
    rows = ROWS.assign(starts_from_map=starts)
    assert map_share(rows).tolist() == [1.0, 0.0]
    assert training_time(rows).tolist() == [11.0, 2.0]
    assert total_gradients(rows).tolist() == [8.0, 4.0]


def test_without_the_column_every_method_pays():
    assert training_time(ROWS).tolist() == [11.0, 22.0]
