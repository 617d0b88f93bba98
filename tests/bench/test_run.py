"""The command from end to end, through the real benchopt, on a tiny benchmark."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

BROKEN = '''
    from benchopt import BaseSolver

    class Solver(BaseSolver):
        """Goes wrong in one of several ways."""

        name = "broken"
        sampling_strategy = "run_once"
        parameters = {"how": ["raises", "diverges", "skips", "lacks"]}

        def skip(self, task, map_fit):
            return (True, "it only skips") if self.how == "skips" else (False, None)

        def set_objective(self, task, map_fit):
            pass

        def run(self, _):
            if self.how == "raises":
                raise ValueError("no luck today")
            if self.how == "diverges":
                raise FloatingPointError("the energy is infinite")

        def get_result(self):
            return dict(cost={}, info={})
'''

BAD_TASK = '''
    from benchopt import BaseDataset

    class Dataset(BaseDataset):
        """A task whose data cannot be read."""

        name = "unreadable"

        def get_data(self):
            raise OSError("the disk is gone")
'''

NOT_IMPORTED = """
    from benchopt import BaseSolver
    {line}

    class Solver(BaseSolver):
        name = "{name}"
"""

STRIPES = '''
    import torch
    from benchmark_utils.data.ood_sets import OodSet, Scale
    from benchmark_utils.data.shifts import Shift, blur
    from benchmark_utils.tasks.task import Task
    from benchopt import BaseDataset

    class Dataset(BaseDataset):
        """Images of 28 x 28: stripes along or across, for the small network; dots are foreign."""

        name = "stripes"
        parameters = {"seed": [0]}

        def get_data(self):
            across = (torch.arange(28) % 4 < 2).float().expand(28, 28)
            y = torch.arange(10) % 2
            generator = torch.Generator().manual_seed(self.seed)
            x = torch.stack([across.T if label else across for label in y])[:, None]
            x = (0.8 * x + 0.2 * torch.rand(10, 1, 28, 28, generator=generator) - 0.5) / 0.4
            dots = (torch.rand(9, 1, 28, 28, generator=generator).round() - 0.5) / 0.4
            return dict(task=Task(
                name="stripes", kind="classification", x_train=x, y_train=y, x_test=x, y_test=y, widths=(),
                activation="", architecture="small-tanh-cnn", class_names=("across", "along"), seed=self.seed,
                sha256="abc", expected_sha256="abc", source="here", licence="none", citation="none",
                scale=Scale((28, 28, 1), (0.5,), (0.4,)), ood=(OodSet("dots", "far", lambda: dots),),
                ood_missing={"svhn": "no network"}, n_shifted=6,
                shifts=tuple(Shift("blur", s, "pixels", lambda x, s=s: blur(x, s)) for s in (1.0, 2.0)),
            ))
'''

TOO_SURE = '''
    import torch
    from benchmark_utils.metrics.prediction import Prediction
    from benchopt import BaseSolver

    class Solver(BaseSolver):
        """Is infinitely sure of what is wrong."""

        name = "too-sure"
        sampling_strategy = "run_once"

        def set_objective(self, task, map_fit):
            pass

        def run(self, _):
            pass

        def get_result(self):
            def predict(x):
                mean = torch.full((1, len(x)), 9.0, dtype=torch.float64)
                return Prediction(mean=mean, variance=torch.full_like(mean, 1e-320))

            return dict(predict=predict, sample_weights=lambda n: None, cost={}, info={})
'''


def test_a_run_on_images_leaves_detection_shifts_and_their_figures(tiny):
    tiny.add("datasets/tiny.py", STRIPES)
    tiny.add_noisy("walk", sds=(0.1,))
    tiny.add_noisy("swag", sds=(0.01,))
    assert tiny.run() == 0

    rows = pd.read_parquet(tiny.output / "rows.parquet")
    assert (rows["task"] == "stripes").all()
    assert (rows["status"] == "done").all()
    assert rows[["auroc_dots_msp", "fpr95_dots_entropy", "aupr_in_dots_mi", "aupr_out_far_mi"]].notna().all(axis=None)
    assert rows[["nll_blur_1", "accuracy_blur_2", "ece_blur_2", "nll_shifted", "nll_unshifted"]].notna().all(axis=None)
    assert rows["auroc_near_msp"].isna().all()
    assert (rows["n_dots"] == 9).all()
    assert (rows["n_shifted"] == 6).all()
    assert set(rows["ood_missing"]) == {"svhn: no network"}
    with np.load(tiny.output / "arrays.npz") as arrays:
        prefix = "stripes/walk/sd=0.1"
        assert arrays[f"{prefix}/roc/dots"].shape[0] == 2
        assert arrays[f"{prefix}/reliability/count"].sum() == 10
        area = rows.set_index("method").loc["walk", "auroc_dots_entropy"]
        assert float(arrays[f"{prefix}/auroc/dots"]) == pytest.approx(area)
        assert not [name for name in arrays if name.endswith("x_train")]
    for name in ("reliability.png", "ood_roc.png", "shift.png", "benchopt.html"):
        assert (tiny.output / name).stat().st_size > 5000, name
    assert not (tiny.output / "uncertainty_maps.png").exists()
    assert "AUROC far" in (tiny.output / "table.md").read_text()
    assert "score mi" in (tiny.output / "ood.md").read_text()
    assert "## stripes (against dots)" in (tiny.output / "targets.md").read_text()
    page = (tiny.output / "benchopt.html").read_text()
    assert all(f'"{name}_stripes"' in page for name in ("reliability", "ood_roc", "shift"))


def test_a_run_leaves_rows_table_figures_and_page(tiny, plane):
    tiny.add("datasets/plane.py", plane)
    tiny.add_noisy("walk", sds=(0.01, 0.1))
    assert tiny.run() == 0

    rows = pd.read_parquet(tiny.output / "rows.parquet")
    assert list(zip(rows["task"], rows["settings"], rows["seed"], strict=True)) == [
        ("plane", "sd=0.01", 0), ("plane", "sd=0.1", 0),
        ("tiny", "sd=0.01", 0), ("tiny", "sd=0.01", 1), ("tiny", "sd=0.1", 0), ("tiny", "sd=0.1", 1),
    ]  # fmt: skip
    assert set(rows["status"]) == {"done"}
    assert set(rows["method"]) == {"walk"}
    line = rows[rows["task"] == "tiny"]
    assert line[["nll", "nll_single", "rmse", "crps", "sd_gap", "sd_data", "energy_ratio"]].notna().all(axis=None)
    assert line[["ece", "accuracy", "tv_hmc"]].isna().all(axis=None)
    assert (line["grad_evals"] == 3).all()
    assert (line["friction"] == 0.5).all()
    assert (rows[["fit_s", "map_s", "predict_s", "peak_mib"]] > 0).all(axis=None)
    # Both settings of a seed started from the one MAP, and paid the same for it.
    assert (rows.groupby(["task", "seed"])["map_s"].nunique() == 1).all()
    assert (rows[["versions", "commit", "device", "dataset_sha256"]] != "").all(axis=None)

    with np.load(tiny.output / "arrays.npz") as arrays:
        assert arrays["tiny/walk/sd=0.1/mean"].shape == (31,)
        assert arrays["tiny//x_train"].shape == (12, 1)
        assert arrays["plane/walk/sd=0.01/entropy"].shape == (64, 64)
    for name in ("nll_against_cost.png", "predictive_bands.png", "uncertainty_maps.png", "benchopt.html"):
        assert (tiny.output / name).stat().st_size > 5000, name
    assert r"walk\[sd=0.01]" in (tiny.output / "table.md").read_text()
    assert "walk[sd=0.1]" in tiny.printed
    assert not [path for path in tiny.output.iterdir() if path.name.startswith(".") or ".part" in path.name]


def test_a_method_that_fails_becomes_a_row_with_the_reason_and_the_rest_goes_on(tiny):
    tiny.add("solvers/broken.py", BROKEN)
    tiny.add("solvers/nowhere.py", NOT_IMPORTED.format(name="nowhere", line="import no_such_package"))
    tiny.add("solvers/typo.py", NOT_IMPORTED.format(name="typo", line="oops = undefined"))
    tiny.add("solvers/too_sure.py", TOO_SURE)
    tiny.add("datasets/unreadable.py", BAD_TASK)
    tiny.add_noisy()
    assert tiny.run() == 1  # said by the exit code too, for whoever only looks at that

    rows = pd.read_parquet(tiny.output / "rows.parquet").set_index(["task", "method", "settings", "seed"])
    assert len(rows) == 2 * 8 + 8
    for seed in (0, 1):
        found = {
            key[1:3]: (row["status"], row["reason"])
            for key, row in rows.xs(seed, level="seed", drop_level=False).iterrows()
            if key[0] == "tiny"
        }
        assert found["noisy", "sd=0.01"] == ("done", "")
        assert found["broken", "how=raises"] == ("failed", "ValueError: no luck today")
        assert found["broken", "how=diverges"] == ("diverged", "FloatingPointError: the energy is infinite")
        assert found["broken", "how=skips"] == ("skipped", "it only skips")
        assert found["broken", "how=lacks"][0] == "failed"
        assert "predict" in found["broken", "how=lacks"][1]
        assert found["nowhere", ""] == ("skipped", "ModuleNotFoundError: No module named 'no_such_package'")
        assert found["typo", ""][0] == "failed"
        assert "undefined" in found["typo", ""][1]
        assert found["too-sure", ""] == ("diverged", "the test NLL is inf")
    unreadable = rows.xs("unreadable", level="task")
    assert set(unreadable["status"]) == {"failed"}
    assert unreadable["reason"].str.contains("the disk is gone").all()
    # All that is known of a run that diverged stands in its row.
    row = rows.loc["tiny", "broken", "how=diverges", 0]
    assert (row[["fit_s", "map_s", "n_params"]] > 0).all()
    assert row[["nll", "gradients", "predict_s"]].isna().all()
    said = tiny.printed
    failed, lost, skipped = 2 * 3 + 8, 2 * 2, 2 * 2
    assert said.rstrip().endswith(
        f"Of 24 runs {failed} failed, {lost} diverged, {skipped} skipped: reasons in {tiny.output / 'table.md'}"
    )
    assert "broken[raises]: failed (seed 0, 1): ValueError: no luck today" in said
    assert "all methods: failed (seed 0): the task could not be loaded: OSError: the disk is gone" in said


def test_only_the_chosen_task_and_method_run(tiny, plane):
    tiny.add("datasets/plane.py", plane)
    tiny.add_noisy("walk")
    tiny.add_noisy("swag")
    assert tiny.run("--dataset", "tiny[seed=1]", "--solver", "walk") == 0
    assert tiny.executions() == ["walk[sd=0.01] tiny 1"]


@pytest.mark.slow
def test_two_workers_give_the_rows_of_one(tiny):
    tiny.add_noisy("walk", sds=(0.01, 0.1))
    assert tiny.run("--jobs", "2") == 0
    rows = pd.read_parquet(tiny.output / "rows.parquet")
    assert list(rows["status"]) == ["done"] * 4
    # Whichever worker trained the MAP, all methods of a seed have it and its price.
    assert (rows.groupby("seed")["map_s"].nunique() == 1).all()
