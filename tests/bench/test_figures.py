"""What the figures are drawn from: costs, the variants shown, the gap, the reference run."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from plots import nll_against_cost, predictive_bands, uncertainty_maps

from benchmark_utils.report.figures import as_image, panels


def make_rows(*lines: dict) -> pd.DataFrame:
    common = {
        "task": "gap",
        "settings": "",
        "seed": 0,
        "status": "done",
        "map_s": 2.0,
        "fit_s": 1.0,
        "nll": 0.5,
    }
    return pd.DataFrame([common | line for line in lines])


def test_cost_has_the_map_in_it_but_for_methods_that_do_without():
    rows = make_rows(
        {"method": "walk", "seed": 0},
        {"method": "walk", "seed": 1, "map_s": 4.0, "nll": 0.7},
        {"method": "hmc", "fit_s": 30.0, "starts_from_map": 0.0},
        {"method": "swag", "status": "failed", "fit_s": np.nan},
    )
    found = nll_against_cost.points(rows).set_index("method")
    assert found["cost_s"].to_dict() == {"walk": 4.0, "hmc": 30.0}
    assert found.loc["walk", "nll"] == pytest.approx(0.6)
    assert found.loc["walk", "nll_sd"] == pytest.approx(np.std([0.5, 0.7], ddof=1))
    assert found["n"].to_dict() == {"walk": 2, "hmc": 1}


def test_a_method_far_off_does_not_set_the_scale():
    lines = [{"method": "walk", "settings": f"friction={i}", "nll": 0.3 + i / 100} for i in range(4)]
    figure = nll_against_cost.draw(make_rows(*lines, {"method": "swag", "nll": 40.0}))
    axis = figure.axes[0]
    assert axis.get_ylim()[1] < 1.0
    assert "40.00" in axis.texts[0].get_text()
    as_image(figure)


def arrays_of(*owners: str, name: str = "sd") -> dict[str, np.ndarray]:
    line = np.linspace(-1, 1, 5, dtype=np.float32)
    found = {f"gap/{owner}/{part}": line for owner in owners for part in ("x", "mean", name)}
    return found | {"gap//x_train": line[:, None], "gap//y_train": line[:, None]}


def test_the_variant_with_the_lowest_nll_stands_for_its_method_in_the_order_asked_for():
    rows = make_rows(
        {"method": "walk", "settings": "friction=0.1", "nll": 0.4},
        {"method": "walk", "settings": "friction=0.5", "nll": 0.3},
        {"method": "map", "settings": "", "nll": 0.2},
    )
    arrays = arrays_of("walk/friction=0.1", "walk/friction=0.5", "map/")
    found = panels(rows, arrays, ("map", "walk", "metricbnn"), "sd")
    assert {task: list(methods) for task, methods in found.items()} == {"gap": ["map", "walk[friction=0.5]"]}
    assert panels(rows, arrays, ("map", "walk"), "entropy") == {}


def test_defaults_stand_for_their_method_even_where_a_variant_has_a_lower_test_nll():
    rows = make_rows(
        {"method": "metricbnn", "settings": "temperature=0.5", "nll": 0.3},
        {"method": "metricbnn", "settings": "", "nll": 0.4},
    )
    arrays = arrays_of("metricbnn/temperature=0.5", "metricbnn/")
    assert list(panels(rows, arrays, ("metricbnn",), "sd")["gap"]) == ["metricbnn"]


def test_a_stored_reference_takes_the_place_of_a_short_hmc_run():
    rows = make_rows({"method": "walk"}, {"method": "hmc"})
    arrays = arrays_of("walk/", "hmc/")
    arrays |= {f"gap//reference_{name}": np.full(5, 7.0) for name in ("mean", "sd")}
    found = panels(rows, arrays, ("walk", "hmc"), "sd")["gap"]
    assert list(found) == ["walk", "hmc (reference)"]
    assert found["hmc (reference)"]["sd"][0] == 7.0
    assert found["walk"]["sd"][0] == -1.0


def test_the_gap_is_the_widest_interval_without_data():
    assert predictive_bands.gap(np.array([1.5, -1.2, -0.6, 0.7, 1.0])) == (-0.6, 0.7)


def test_maps_of_one_task_are_drawn_on_one_scale():
    one = {
        "entropy": np.zeros((4, 4)),
        "extent": np.array([-1.0, 1.0, -1.0, 1.0]),
        "x_train": np.zeros((3, 2)),
        "y_train": np.array([0.0, 1.0, 1.0]),
    }
    figure = uncertainty_maps.draw({"banana": {"map": one, "hmc": one}})
    limits = [image.get_clim() for axis in figure.axes for image in axis.images]
    assert limits == [(0.0, np.log(2))] * 2
    assert as_image(figure).shape[2] == 3
