"""The file: the safetensors format, and everything in it that is refused."""

import json
import shutil

import numpy as np
import pytest
import safetensors.numpy
from safetensors import safe_open

import lipsrl
from lipsrl.deployment._safetensors import read_safetensors, write_safetensors
from lipsrl.deployment._schema import DIGEST, POLICY, digest, read_policy_file, write_policy_file


def same(a, b):
    observations = np.random.default_rng(0).standard_normal((20, 3))
    return np.array_equal(a(observations), b(observations)) and a.certificate == b.certificate


def test_the_reference_implementation_reads_what_is_written(small_file):
    tensors, metadata = read_safetensors(small_file)
    reference = safetensors.numpy.load_file(small_file)
    assert set(reference) == set(tensors)
    for name, tensor in tensors.items():
        assert reference[name].dtype == tensor.dtype
        np.testing.assert_array_equal(reference[name], tensor)
    with safe_open(small_file, "numpy") as file:
        assert file.metadata() == metadata
    assert {tensors[f"network.{i}.weight"].dtype for i in (0, 2)} == {np.dtype(np.float32)}


def test_what_the_reference_implementation_writes_is_read(small_file, tmp_path):
    tensors, metadata = read_safetensors(small_file)
    path = tmp_path / "rewritten.safetensors"
    safetensors.numpy.save_file({k: v.copy() for k, v in tensors.items()}, path, metadata)
    assert same(lipsrl.load_policy(path), lipsrl.load_policy(small_file))


def test_shapes_and_values_survive(tmp_path):
    tensors = {
        "b": np.array([np.inf, -0.0], np.float32),
        "a": np.arange(6.0).reshape(3, 2).T,
        "empty": np.zeros((0, 3)),
        "scalar": np.float32(3.5).reshape(()),
        "big-endian": np.array([1.0, 2.0], ">f8"),
    }
    write_safetensors(tmp_path / "f.safetensors", tensors, {"ü": "→\n"})
    for read, metadata in (
        read_safetensors(tmp_path / "f.safetensors"),
        (safetensors.numpy.load_file(tmp_path / "f.safetensors"), {"ü": "→\n"}),
    ):
        assert metadata == {"ü": "→\n"}
        assert set(read) == set(tensors)
        for name in tensors:
            assert read[name].shape == tensors[name].shape
            np.testing.assert_array_equal(read[name], tensors[name])


def test_the_description_is_complete(small_file):
    description, _ = read_policy_file(small_file)
    assert description["schema_version"] == 2
    assert description["algorithm"] == "PPO"
    assert description["layers"] == [
        {"kind": "Linear", "weight": "network.0.weight", "bias": "network.0.bias"},
        {"kind": "Tanh"},
        {"kind": "Linear", "weight": "network.2.weight", "bias": "network.2.bias"},
    ]
    assert description["action"] == {
        "kind": "box",
        "shape": [2],
        "dtype": "float32",
        "squash": False,
        "rescale": False,
    }
    assert description["versions"]["lipsrl"] == lipsrl.__version__
    assert description["versions"]["numpy"] == np.__version__


def test_no_truncated_file_loads(small_file, tmp_path):
    content, path = small_file.read_bytes(), tmp_path / "cut.safetensors"
    for length in [*range(40), *range(40, len(content), 97), *range(len(content) - 20, len(content))]:
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"cut\.safetensors"):
            lipsrl.load_policy(path)
    path.write_bytes(content[:-1])
    with pytest.raises(ValueError, match="truncated or damaged: it ends within 'network"):
        lipsrl.load_policy(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(ValueError, match="1 bytes follow the last tensor"):
        lipsrl.load_policy(path)


def test_no_flipped_bit_changes_the_policy(small_file, tmp_path):
    content, path = small_file.read_bytes(), tmp_path / "flipped.safetensors"
    original, refused = lipsrl.load_policy(small_file), 0
    rng = np.random.default_rng(0)
    for position in rng.permutation(len(content))[:1000]:
        damaged = bytearray(content)
        damaged[position] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            loaded = lipsrl.load_policy(path)
        except ValueError:
            refused += 1
        else:
            assert same(loaded, original)  # a blank that became another blank
    assert refused > 950


def edited(small_file, tmp_path, change):
    """The file with ``change(description, tensors)`` made and the old hash."""
    tensors, metadata = read_safetensors(small_file)
    tensors = {name: tensor.copy() for name, tensor in tensors.items()}
    description = json.loads(metadata[POLICY])
    change(description, tensors)
    path = tmp_path / "edited.safetensors"
    safetensors.numpy.save_file(tensors, path, {**metadata, POLICY: json.dumps(description)})
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda description, tensors: tensors["network.0.weight"].__setitem__((0, 0), 1.0),
        lambda description, tensors: tensors["action.high"].__setitem__(0, 2.0),
        lambda description, tensors: description["certificate"].update(upper_bound=0.1),
        lambda description, tensors: description["layers"].pop(1),
        lambda description, tensors: tensors.update(more=np.zeros(1)),
        lambda description, tensors: tensors.update({"network.0.weight": tensors["network.0.weight"].reshape(3, 4)}),
    ],
)  # fmt: skip
def test_what_was_edited_is_refused(small_file, tmp_path, change):
    with pytest.raises(ValueError, match="does not match its SHA-256"):
        lipsrl.load_policy(edited(small_file, tmp_path, change))


def forged(small_file, tmp_path, change):
    """The same with a new hash: what an exporter with a bug would write."""
    description, tensors = read_policy_file(small_file)
    tensors = {name: tensor.copy() for name, tensor in tensors.items()} | {"eye": np.eye(4, dtype=np.float32)}
    change(description, tensors)
    write_policy_file(tmp_path / "forged.safetensors", description, tensors)
    return tmp_path / "forged.safetensors"


def residual(**changes):
    square = {"kind": "Linear", "weight": "eye", "bias": None}
    return {"kind": "Residual", "skip": "eye", "branch": [square], **changes}


def test_a_residual_block_may_be_put_in(small_file, tmp_path):
    def change(description, tensors):
        description["layers"].insert(1, residual())

    def twice(description, tensors):
        tensors["network.0.weight"] *= 2
        tensors["network.0.bias"] *= 2

    doubled, weighted = (lipsrl.load_policy(forged(small_file, tmp_path, how)) for how in (change, twice))
    observations = np.random.default_rng(0).standard_normal((20, 3))
    np.testing.assert_allclose(doubled(observations), weighted(observations), rtol=1e-5, atol=1e-6)


def test_endless_nesting_is_refused(small_file, tmp_path):
    description, tensors = read_policy_file(small_file)
    tensors = {**tensors, "eye": np.eye(3, dtype=np.float32)}
    text = json.dumps({**description, "layers": ["HERE", *description["layers"]]})
    inner = '{"kind": "Linear", "weight": "eye", "bias": null}'
    for depth in (600, 20_000):
        start = '{"kind": "Residual", "skip": "eye", "branch": [' * depth
        nested = text.replace('"HERE"', start + inner + "]}" * depth)
        path = tmp_path / "nested.safetensors"
        write_safetensors(path, tensors, {POLICY: nested, DIGEST: digest(nested, tensors)})
        with pytest.raises(ValueError, match=r"description cannot be read|no policy that can run"):
            lipsrl.load_policy(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d, t: t["network.0.weight"].__setitem__((0, 0), np.nan), "'network.0.weight' holds NaN or infinite"),
        (lambda d, t: t["network.2.bias"].__setitem__(0, np.inf), "'network.2.bias' holds NaN or infinite"),
        (lambda d, t: t["action.low"].__setitem__(0, np.nan), "'action.low' holds NaN"),
        (lambda d, t: d.update(schema_version=1), "schema_version=1, this lipsrl reads 2 and 3"),
        (lambda d, t: d.pop("certificate"), "no 'certificate'"),
        (lambda d, t: t.pop("network.2.weight"), "no 'network.2.weight'"),
        (lambda d, t: d["layers"][1].update(kind="Tan"), "Did you mean 'Tanh'"),
        (lambda d, t: d["layers"][1].update(kind="DividedGELU"), "no 'divisor'"),
        (lambda d, t: d["layers"][1].update(kind="Householder"), "no 'angle'"),
        (
            lambda d, t: (d["layers"][1].update(kind="Householder", angle="θ"), t.update(θ=np.zeros(3, np.float32))),
            r"'θ' has shape \(3,\), expected \(2,\)",
        ),
        (
            lambda d, t: (d["layers"][1].update(kind="Householder", angle="θ"), t.update(θ=np.full(2, np.inf))),
            "'θ' holds NaN or infinite",
        ),
        (lambda d, t: d["layers"].insert(1, residual(skip="network.2.weight")), "has 2 rows, expected 4"),
        (lambda d, t: d["layers"].insert(1, residual(skip="network.0.weight")), r"shape \(4, 3\), expected \(…, 4\)"),
        (lambda d, t: d["layers"].insert(1, {"kind": "Residual", "branch": []}), "no 'skip'"),
        (lambda d, t: d["layers"].insert(1, residual(branch=[], skip="eye")), "no policy that can run"),
        (lambda d, t: d["layers"].pop(0), "no policy that can run"),
        (lambda d, t: d.update(layers=[]), "no policy that can run"),
        (lambda d, t: d["observation"].update(shape=[4]), r"shape \(4, 3\), expected \(…, 4\)"),
        (lambda d, t: d["observation"].update(normalised=True), "no 'observation.mean'"),
        (lambda d, t: t.update({"network.0.bias": np.zeros(5, np.float32)}), r"shape \(5,\), expected \(4,\)"),
        (lambda d, t: d["action"].update(kind="boxes"), "Did you mean 'box'"),
        (lambda d, t: d["action"].update(shape=[3]), r"size 2 into shape \(3,\)"),
        (lambda d, t: d.update(observation=None), "no policy that can run"),
    ],
)  # fmt: skip
def test_what_cannot_run_is_refused_when_loaded(small_file, tmp_path, change, words):
    with pytest.raises(ValueError, match=words):
        lipsrl.load_policy(forged(small_file, tmp_path, change))


def test_other_files_are_refused(small_model, small_file, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.safetensors' is not a file"):
        lipsrl.load_policy(tmp_path / "missing.safetensors")
    with pytest.raises(FileNotFoundError, match="is not a file"):
        lipsrl.load_policy(tmp_path)
    small_model.save(tmp_path / "model.zip")
    with pytest.raises(ValueError, match="It is a zip: load it with Stable-Baselines3 and export it"):
        lipsrl.load_policy(tmp_path / "model.zip")
    (tmp_path / "text").write_text("no policy at all, just words\n")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        lipsrl.load_policy(tmp_path / "text")
    safetensors.numpy.save_file({"weight": np.zeros(3)}, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="not of a lipsrl policy"):
        lipsrl.load_policy(tmp_path / "weights.safetensors")
    safetensors.numpy.save_file({"weight": np.zeros(3, np.int64)}, tmp_path / "integers.safetensors")
    with pytest.raises(ValueError, match="'weight' of dtype I64, expected F64 or F32"):
        lipsrl.load_policy(tmp_path / "integers.safetensors")
    for url in ("https://example.org/policy.safetensors", "s3://bucket/policy.safetensors"):
        with pytest.raises(ValueError, match=r"is a URL\. Download the file"):
            lipsrl.load_policy(url)
    shutil.copy(small_file, tmp_path / "renamed.bin")
    assert same(lipsrl.load_policy(tmp_path / "renamed.bin"), lipsrl.load_policy(small_file))


@pytest.mark.parametrize(
    "header",
    [
        b"{",
        b"{\xff}",
        b"[1, 2]  ",
        b'{"a": 3}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]}}',
        b'{"a": {"dtype": "F32", "shape": ["x"], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [1000000000], "data_offsets": [0, 4000000000]}}',
        b'{"__metadata__": 3}',
        b'{"a":' * 100_000,
    ],
)
def test_malformed_headers_are_refused(tmp_path, header):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(ValueError, match=r"bad\.safetensors' is (truncated or damaged|not a safetensors)"):
        lipsrl.load_policy(path)


def test_an_unreadable_description_is_refused(tmp_path):
    for text in ("{", "[]", "{}", "3"):
        write_safetensors(tmp_path / "p.safetensors", {}, {POLICY: text, DIGEST: "0"})
        with pytest.raises(ValueError, match="description cannot be read"):
            lipsrl.load_policy(tmp_path / "p.safetensors")
