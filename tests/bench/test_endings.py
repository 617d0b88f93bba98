"""How the command ends: what is an error, what a result, and what is refused before anything is loaded."""

from pathlib import Path

import pandas as pd
import pytest

from benchmark_utils.report.configuration import chosen_of

COUNTED = '''
    from pathlib import Path
    from benchopt import BaseSolver

    class Solver(BaseSolver):
        """Always goes wrong, and leaves a line each time."""

        name = "broken"
        sampling_strategy = "run_once"

        def set_objective(self, task, map_fit):
            pass

        def run(self, _):
            with open(Path(__file__).parents[1] / "executions.txt", "a") as file:
                print(self, file=file)
            raise {raised}

        def get_result(self):
            return {{}}
'''

LOUD = '''
    from pathlib import Path
    from benchopt import BaseDataset

    class Dataset(BaseDataset):
        """Tells that it was loaded."""

        name = "loud"

        def get_data(self):
            (Path(__file__).parents[1] / "loaded").touch()
'''


@pytest.mark.slow
def test_a_run_that_diverges_is_a_result_and_not_run_again(tiny):
    tiny.add("solvers/broken.py", COUNTED.format(raised="FloatingPointError('the energy is infinite')"))
    for _ in range(2):
        assert tiny.run() == 0
        rows = pd.read_parquet(tiny.output / "rows.parquet")
        assert list(rows["status"]) == ["diverged"] * 2
        assert set(rows["reason"]) == {"FloatingPointError: the energy is infinite"}
        assert len(tiny.executions()) == 2
        assert tiny.said == ""
        assert tiny.printed.rstrip().endswith(f"Of 2 runs 2 diverged: reasons in {tiny.output / 'table.md'}")
    assert "2 runs, 2 of them finished before" in tiny.printed


@pytest.mark.slow
def test_a_run_that_fails_is_an_error_and_run_again(tiny):
    tiny.add("solvers/broken.py", COUNTED.format(raised="ValueError('no luck today')"))
    for number in (1, 2):
        assert tiny.run("--dataset", "tiny[seed=0]") == 1
        assert set(pd.read_parquet(tiny.output / "rows.parquet")["status"]) == {"failed"}
        assert len(tiny.executions()) == number
        assert tiny.printed.rstrip().endswith(f"Of 1 runs 1 failed: reasons in {tiny.output / 'table.md'}")


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (["done", "done"], 0, ""),
        (["done", "skipped"], 0, "Of 2 runs 1 skipped: "),
        (["diverged", "skipped"], 0, "Of 2 runs 1 diverged, 1 skipped: "),
        (["done", "diverged", "failed"], 1, "Of 3 runs 1 failed, 1 diverged: "),
        (["skipped", "skipped"], 1, "Of 2 runs 2 skipped: "),
    ],
)
def test_only_what_failed_or_gave_nothing_at_all_is_an_error(status, code, said):
    from run import ending

    expected = f"{said}reasons in {Path('results', 'x', 'table.md')}" if said else ""
    assert ending(pd.Series(status), Path("results", "x")) == (code, expected)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-such-config"], "there is no configuration no-such-config; there are ablation, "),
        (["quik"], "there is no configuration quik; the nearest is quick, there are ablation, "),
        (["somewhere/imagse.yml"], "there is no configuration somewhere/imagse.yml; the nearest is images, there are "),
        (["quick", "--parallel-config", "nowhere.yml"], "there is no file nowhere.yml for --parallel-config"),
    ],
)
def test_a_file_that_there_is_not_is_refused_in_one_line(arguments, said, capsys):
    from run import parse

    with pytest.raises(SystemExit) as refused:
        parse(arguments)
    assert refused.value.code == 2
    text = capsys.readouterr().err
    assert text.startswith(f"error: {said}")
    assert text.count("\n") == 1


def test_an_unknown_name_is_refused_in_one_line_before_anything_is_loaded(tiny):
    tiny.add("datasets/loud.py", LOUD)
    tiny.add_noisy()
    assert tiny.run("--solver", "niosy") == 2
    assert (
        tiny.said
        == "error: --solver: there is no method 'niosy', the nearest is noisy; each has a file in bench/solvers\n"
    )
    assert tiny.printed == ""
    assert not (tiny.folder / "loaded").exists()
    assert not tiny.output.exists()


def test_a_name_alone_stands_for_what_the_configuration_has_of_it():
    configured = [{"breast": {"seed": [0, 1]}}, "walk", {"walk": {"steps": [60]}}]
    assert chosen_of(None, configured) == configured
    assert chosen_of(["breast"], configured) == [{"breast": {"seed": [0, 1]}}]
    assert chosen_of(("walk",), configured) == ["walk", {"walk": {"steps": [60]}}]
    assert chosen_of(["breast[seed=1]", "vehicle"], configured) == ["breast[seed=1]", "vehicle"]
