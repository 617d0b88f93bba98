"""Configurations of anything: read, or refused in one line that names the file; nothing in them is run."""

import os
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from benchmark_utils.report import campaign
from benchmark_utils.report.configuration import OPTIONS, read_configuration, read_parallel
from benchmark_utils.report.refusals import ConfigurationError

CONFIGS = Path(__file__).resolve().parents[2] / "bench" / "configs"
EXAMPLES = int(os.environ.get("FIBERBNN_FUZZ", "0"))  # the same few each time, or as many as this says, drawn anew
FUZZ = settings(
    max_examples=EXAMPLES or 60, derandomize=not EXAMPLES, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
CODE = [
    "dataset: !!python/object/apply:os.system ['touch ran']",
    "!!python/object/new:type {args: [a, !!python/tuple [], {}]}",
    "dataset: !!python/name:os.system",
    "dataset: !!python/module:os",
    "solver: [{hmc: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [ran]]}]",
    "solver: [ran.py]",
    "dataset: ['evil/ran.py[seed=0]']",
    "solver: [{ran.py: {a: [1]}}]",
]


def read_or_refused(path: Path, read=read_configuration) -> dict | None:
    """Read a file; return its options, or None if it was refused as it should be."""
    try:
        options = read(path)
    except ConfigurationError as error:
        assert str(path) in str(error)  # noqa: PT017 - some files are refused, not all
        assert "\n" not in str(error)  # noqa: PT017
        assert len(str(error)) < 1000  # noqa: PT017
        return None
    assert isinstance(options, dict)
    return options


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yml")), ids=lambda path: path.stem)
def test_our_own_are_read_as_what_they_are(path):
    kinds = {read_configuration: read_or_refused(path), read_parallel: read_or_refused(path, read_parallel)}
    expected = read_parallel if path.stem in ("dask", "slurm") else read_configuration
    assert [read for read, options in kinds.items() if options] == [expected]


@FUZZ
@given(content=st.binary(max_size=60) | st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(content=b"[" * 20_000)
@example(content=b"{a: " * 20_000)
@example(content=b"- " * 20_000)
@example(content=b"\xff\xfe\x00")
@example(content=b"a: 1\0")
@example(content=b"dataset: 2026-99-99")
@example(content=b"? [a]\n: b")
@example(content=b"<<: 3")
@example(content=b"a: 0x" + b"f" * 5000)
def test_any_bytes(content, tmp_path):
    path = tmp_path / "c.yml"
    path.write_bytes(content)
    read_or_refused(path)
    read_or_refused(path, read_parallel)


WORDS = st.sampled_from([*OPTIONS, "backend", "loky", "dask", "n_jobs", "slurm_time", "hmc", "all", "x.py", "a[", "1"])
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=6) | st.dates()
ANYTHING = st.recursive(
    PLAIN,
    lambda one: st.lists(one, max_size=3) | st.dictionaries(PLAIN.filter(lambda key: key == key), one, max_size=3),
)


@FUZZ
@given(content=st.dictionaries(WORDS, ANYTHING, max_size=4))
def test_any_values_of_the_options(content, tmp_path):
    path = tmp_path / "c.yml"
    path.write_text(yaml.safe_dump(content))
    options = read_or_refused(path)
    if options is not None:
        assert set(content) <= set(OPTIONS)
        assert all(isinstance(name, str | dict) for name in (*options["dataset"], *options["solver"]))
    read_or_refused(path, read_parallel)


@pytest.mark.parametrize("text", CODE)
def test_nothing_is_run(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ran.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    (tmp_path / "c.yml").write_text(text)
    assert read_or_refused(tmp_path / "c.yml") is None
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, r"anchors and aliases are not used here \(line 2\)"),
        ("solver: [hmc]\nsolver: [map]", r"'solver' stands here twice \(line 2\)"),
        ("solvers: [hmc]", "unknown option 'solvers'; there are dataset, solver, parallel-config, no-timeout"),
        ("solver: {hmc: 3}", "solver must be a list of names, or of names with parameters"),
        ("solver: [3]", "solver must be a list of names"),
        ("no-timeout: false", "no-timeout can only be true"),
        ("- a\n- b", "must be a mapping of options"),
        ("a: [", "not a usable YAML file"),
        ("backend: loky", "give it with --parallel-config"),
        ("parallel-config: {backend: spark}", "needs `backend:` with one of loky, dask, submitit"),
        ("parallel-config: {backend: loky, n_job: 2}", "unknown option 'n_job'; for loky there are n_jobs, batch_size"),
        ("parallel-config: {backend: loky, n_jobs: two}", "n_jobs must be a whole number"),
        ("parallel-config: {backend: loky, n_jobs: 0}", "n_jobs must be a whole number"),
        ("parallel-config: {backend: submitit, slurm_time: 10:30:00}", "slurm_time must stand in quotes"),
        ("x: " + "y" * (1 << 20), "more than a megabyte"),
    ],
)
def test_what_is_wrong_is_said(text, said, tmp_path):
    (tmp_path / "c.yml").write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        read_configuration(tmp_path / "c.yml")


@pytest.fixture
def planned(tiny, monkeypatch):
    """Plan the campaign of a configuration's text, for a benchmark with one method and one task."""
    monkeypatch.setattr("benchopt.benchmark._RUNNING_BENCHMARK", None)
    # benchopt puts a module of its own in its place, without the submodules that are loaded.
    monkeypatch.setitem(sys.modules, "benchmark_utils", sys.modules["benchmark_utils"])
    monkeypatch.setenv("BENCHOPT_CACHE", "")
    tiny.add_noisy()

    def plan(text: str) -> campaign.Campaign:
        tiny.config.write_text(text)
        return campaign.plan(tiny.config, tiny.folder)

    return plan


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("solver: [niosy]", "there is no method 'niosy', the nearest is noisy; each has a file in bench/solvers"),
        ("dataset: [iris]", "there is no task 'iris'; each has a file in bench/datasets"),
        ("dataset: [tiny, {tinny: {seed: [1]}}]", "there is no task 'tinny', the nearest is tiny;"),
        ("dataset: [tinny]\nsolver: [niosy]", "there is no task 'tinny'"),
        ("solver: [{noisy: {ds: [1]}}]", "the method noisy has no parameter 'ds', the nearest is sd; there are sd"),
        ("solver: ['noisy[speed=1]']", "the method noisy has no parameter 'speed', the nearest is sd; there are"),
        ("dataset: [{tiny: {'seed, sed': [[0, 1]]}}]", "the task tiny has no parameter 'sed', the nearest is seed;"),
        ("solver: ['noisy*[speed=1]']", "the method noisy has no parameter 'speed'"),
        ("solver: [{noisy: {sd: [0.1, high]}}]", "the method noisy cannot have sd='high'; it may be a number"),
        ("solver: ['noisy[sd=True]']", "the method noisy cannot have sd=True; it may be a number"),
        ("dataset: ['tiny[seed=first]']", "the task tiny cannot have seed='first'; it may be a whole number"),
        ("solver: ['noisy[1]', x]", "there is no method 'x'"),
        ("dataset: ['tiny[seed=0']", "dataset: Invalid name"),
        ("dataset: ['(']", "dataset: .*"),
    ],
)
def test_names_that_there_are_not_are_said_with_those_that_there_are(text, said, planned):
    with pytest.raises(ConfigurationError, match=said) as refused:
        planned(text)
    assert "\n" not in str(refused.value)


NAMES = st.text(alphabet="noisytid*[]=(,'\"\\0.", max_size=12) | st.sampled_from(["noisy", "tiny"])


@settings(FUZZ, max_examples=EXAMPLES or 40)
@given(
    option=st.sampled_from(["dataset", "solver"]),
    names=st.lists(
        st.text(alphabet="noisytid*[]=(,'\"\\0.", max_size=12) | st.sampled_from(["noisy", "tiny"]), max_size=3
    ),
    parameters=st.dictionaries(st.sampled_from(["sd", "seed", "x", "", ","]), ANYTHING, max_size=2) | st.none(),
)
def test_names_of_anything(option, names, parameters, planned):
    entries = names if parameters is None else [{name: parameters} for name in names]
    try:
        plan = planned(yaml.safe_dump({option: entries}))
    except ConfigurationError as error:
        assert "\n" not in str(error)  # noqa: PT017 - some names are refused, not all
    else:
        assert {name.split("[")[0] for name in plan.solvers} <= {"noisy"}
