"""Saved posteriors that are damaged at random: refused in one line, or loaded and usable, and nothing else."""

import json
import os
import struct
import warnings

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from fiberbnn import AutoencoderSettings, LatentSettings, MetricBNN, WalkSchedule

pytestmark = pytest.mark.filterwarnings(
    "ignore:the walk's energy", "ignore:.* of the walk's steps were undone", "ignore:decoded samples are hotter"
)
EXAMPLES = int(os.environ.get("FIBERBNN_FUZZ", "0"))  # the same few each time, or as many as this says, drawn anew
FUZZ = settings(
    max_examples=EXAMPLES or 80, derandomize=not EXAMPLES, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip

PLAIN = st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats() | st.text(max_size=8)
JSON = st.recursive(
    PLAIN, lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=5), one, max_size=3)
)
DTYPES = ["F64", "F32", "F16", "BF16", "I64", "I8", "BOOL", "F8_E4M3", "X7", "", 3]


@pytest.fixture(scope="module")
def saved_file(tmp_path_factory):
    """The bytes of a small saved posterior, its architecture, and inputs."""
    x = torch.linspace(-1, 1, 20)[:, None]
    model = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))
    posterior = MetricBNN(
        model, "regression", noise_std=0.3, n_particles=4,
        schedule=WalkSchedule(max_steps=12, min_warmup=4, n_snapshots=3),
        latent=LatentSettings(rank=4, autoencoder=AutoencoderSettings(latent_size=2, hidden=3, steps=2, max_steps=2)),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        posterior.fit((x, x.sin()))
    path = tmp_path_factory.mktemp("saved") / "p.safetensors"
    posterior.save(path)
    return path.read_bytes(), model, x


def assert_refused_or_usable(path, model, x) -> bool:
    """Load a file; return whether it was refused."""
    before, refusal = sorted(path.parent.iterdir()), ""
    try:
        posterior = MetricBNN.load(path, model)
    except ValueError as error:
        refusal = str(error)
    assert sorted(path.parent.iterdir()) == before
    if refusal:
        assert str(path) in refusal
        assert "\n" not in refusal
        return True
    assert posterior.predictive_samples(x, 2).shape[:2] == (2, len(x))
    assert posterior.state_dict()
    assert str(posterior.diagnostics)
    return False


@FUZZ
@given(data=st.data())
def test_bytes_changed_cut_or_added(data, saved_file, tmp_path):
    whole, model, x = saved_file
    damaged, path = bytearray(whole), tmp_path / "p.safetensors"
    for _ in range(data.draw(st.integers(1, 4))):
        # Half of them in the header, which is where a reader can be led astray.
        where = data.draw(st.integers(0, len(damaged) - 1) | st.integers(0, 300))
        if data.draw(st.booleans()):
            damaged[where % len(damaged)] = data.draw(st.integers(0, 255))
        else:
            length = data.draw(st.integers(0, 40))
            damaged[where : where + length] = data.draw(st.binary(max_size=10))
        damaged = damaged or bytearray(b"\0")
    path.write_bytes(damaged)
    assert_refused_or_usable(path, model, x)


@FUZZ
@given(name=st.integers(0, 100), what=st.sampled_from(["dtype", "shape", "data_offsets"]), data=st.data())
def test_a_header_that_lies(name, what, data, saved_file, tmp_path):
    whole, model, x = saved_file
    (size,) = struct.unpack("<Q", whole[:8])
    header = json.loads(whole[8 : 8 + size])
    names = sorted(set(header) - {"__metadata__"})
    large = st.integers(-2, 2**70)
    entry = header[names[name % len(names)]]
    entry[what] = data.draw(st.sampled_from(DTYPES) if what == "dtype" else st.lists(large, max_size=3) | JSON)
    text = json.dumps(header).encode()
    path = tmp_path / "p.safetensors"
    path.write_bytes(
        struct.pack("<Q", data.draw(st.sampled_from([len(text)] * 4 + [2**63, 0]))) + text + whole[8 + size :]
    )
    assert_refused_or_usable(path, model, x)


def branches(tree, path=()):
    """Every place in nested dictionaries and lists."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from branches(value, (*path, key))


@FUZZ
@given(place=st.integers(0, 1000), value=JSON, gone=st.booleans())
def test_settings_of_other_types_or_missing(place, value, gone, saved_file, tmp_path):
    whole, model, x = saved_file
    path = tmp_path / "p.safetensors"
    path.write_bytes(whole)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    content = json.loads(metadata["settings"])
    places = list(branches(content))
    *way, last = places[place % len(places)]
    parent = content
    for key in way:
        parent = parent[key]
    if gone:
        del parent[last]
    else:
        parent[last] = value
    save_file(load_file(path), path, metadata | {"settings": json.dumps(content)})
    assert_refused_or_usable(path, model, x)


@pytest.mark.parametrize("changed", ["nan", "type", "shape", "gone"])
def test_every_tensor_counts(changed, saved_file, tmp_path):
    whole, model, x = saved_file
    path = tmp_path / "p.safetensors"
    path.write_bytes(whole)
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    for name, tensor in tensors.items():
        others = {
            "nan": tensor * float("nan"), "type": tensor.to(torch.int64), "shape": torch.cat([tensor, tensor]),
        }  # fmt: skip
        rest = {key: value for key, value in tensors.items() if key != name}
        save_file(rest | ({} if changed == "gone" else {name: others[changed]}), path, metadata)
        refused = assert_refused_or_usable(path, model, x)
        # More points of the density are a density; the weights of the network take what torch can convert.
        assert refused or (changed, name) == ("shape", "mode0.density.points") or (changed == "type" and not refused)


@pytest.mark.parametrize("size", [10**7, 10**15, 2**70, -3, 2.5, 1e300])
def test_a_size_that_no_memory_holds_is_refused_before_it_is_taken(size, saved_file, tmp_path):
    whole, model, x = saved_file
    path = tmp_path / "p.safetensors"
    path.write_bytes(whole)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    content = json.loads(metadata["settings"])
    content["modes"][0]["hidden"] = size
    save_file(load_file(path), path, metadata | {"settings": json.dumps(content)})
    assert assert_refused_or_usable(path, model, x)
