import pandas as pd

from benchmark_utils.report.targets import targets_table


def rows(**changes):
    walk = {"task": "toy", "kind": "classification", "method": "walk", "status": "done", "nll": 0.5, "nll_hmc": 0.49}
    walk |= {"tv_hmc": 0.02, "energy_ratio": 0.9, "gradients": 3000} | changes
    return pd.DataFrame([walk | {"seed": 0}, walk | {"seed": 1, "nll": walk["nll"] + 0.004}])


def test_means_over_seeds_stand_in_the_table_and_methods_that_did_not_run_have_no_line():
    table = targets_table(rows())
    assert "| walk: NLL − HMC | ≤ 0.02 | 0.012 ± 0.003 | 0.012 |" in table
    assert "latent" not in table
    assert "sd gap" not in table  # a classification has none
    assert "!" not in table


def test_a_mean_outside_its_range_is_marked():
    assert "1.30 ± 0.00 !" in targets_table(rows(energy_ratio=1.3))
    assert "0.60 ± 0.00 !" in targets_table(rows(energy_ratio=0.6))
    assert "0.042 ± 0.003 !" in targets_table(rows(nll=0.53))


def test_failed_rows_do_not_count():
    assert targets_table(rows(status="failed")) == ""
