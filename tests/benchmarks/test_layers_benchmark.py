"""`python -m benchmarks.layers` in miniature: what it records and says. Never how fast anything is."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from benchmarks._layer_cases import choose, lipschitz_network, stacked, step_and_act, train_step, true_bound
from benchmarks._layer_tables import PLAIN, Row, against_targets, as_bound
from benchmarks._peers import PEERS, Peer
from benchmarks._timing import calls_within, interleave, paired_ratio
from benchmarks.layers import Args
from lipsrl.layers import LAYERS

ROOT = Path(__file__).parents[2]
MEASURED = {"rollout", "uncached", "train", "transition"}


def run(*options):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.layers", *map(str, options)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Every family and every peer that is there, tiny; PPO.learn for one rollout."""
    path = tmp_path_factory.mktemp("benchmark") / "layers.json"
    options = ["--widths", 8, "--repeats", 2, "--seconds", 1e-4, "--learn-steps", 1, "--learn-repeats", 1]
    result = run(*options, "--output", path)
    assert result.returncode == 0, result.stderr
    return json.loads(path.read_text()), result


def test_every_entry_is_measured_in_every_case(small):
    record, _ = small
    assert set(LAYERS) | {PLAIN} <= set(record["entries"])
    found = {(row["case"], row["entry"]): row for row in record["rows"]}
    assert set(found) == {(case, name) for case in MEASURED for name in record["entries"]} | {
        ("learn", name) for name in (PLAIN, *LAYERS)
    }
    for (case, name), row in found.items():
        assert len(row["seconds"]) == (1 if case == "learn" else 2)
        assert min(row["seconds"]) > 0
        assert row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
        assert name != PLAIN or row["ratio_low"] == row["ratio_high"] == 1.0


def test_peers_are_run_or_skipped_with_the_extra_named(small):
    record, result = small
    assert set(record["skipped"]) | set(record["entries"]) == {PLAIN, *LAYERS, *PEERS}
    assert not set(record["skipped"]) & set(record["entries"])
    for name, reason in record["skipped"].items():
        assert f"skipped {name}: {PEERS[name].distribution} is not installed" in " ".join(
            result.stdout.split()
        )
        assert "pip install -e '.[peers]'" in reason


def test_every_family_keeps_its_bound(small):
    record, _ = small
    bounds = {row["entry"]: row for row in record["bounds"]}
    assert set(bounds) == set(record["entries"]) - {PLAIN}
    for name in LAYERS:
        assert 0 < bounds[name]["bound_over_claim"] <= 1.0
        assert not bounds[name]["above"]
        assert bounds[name]["steps"] > 0


def test_record_says_where_and_with_what_it_was_made(small):
    record, result = small
    assert record["machine"]["cpu"] in result.stdout
    assert record["machine"]["torch_threads"] == 1
    assert 0 < record["machine"]["cpu_share"] < 2
    assert record["versions"]["torch"] == torch.__version__
    assert record["command"].startswith("python -m benchmarks.layers --widths 8")
    assert record["date"][:2] == "20"


def test_targets_are_in_the_record_and_in_the_table(small):
    record, result = small
    assert {t["entry"] for t in record["targets"]} == set(LAYERS)  # 2×8 has those of every width only
    assert {t["case"] for t in record["targets"]} == {"rollout"}
    assert result.stdout.count("2×8 rollout") == len(LAYERS)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"families": ("spectrl",)}, "Did you mean 'spectral'"),
        ({"peers": ("torchlipp",)}, "Did you mean 'torchlip'"),
        ({"repeats": 0}, "repeats must be an integer > 0"),
        ({"learn_repeats": -1}, "learn_repeats must be an integer > 0"),
        ({"seconds": math.nan}, "seconds must be a finite number > 0"),
        ({"output": Path("layers.csv")}, "must end in .json"),
        ({"widths": ()}, "widths is empty"),
        ({"widths": (64, 0)}, "widths must be an integer > 0"),
    ],
)
def test_wrong_options_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        Args(**options).check()


def test_wrong_options_end_the_command_before_anything_is_measured():
    result = run("--families", "spectrl")
    assert result.returncode == 2
    assert "Did you mean 'spectral'" in result.stderr
    assert "inference" not in result.stderr


def row(ratio, case="train", width=64, entry="spectral"):
    return Row(width, case, entry, 1e-3, ratio, ratio, ratio, [1e-3])


def test_a_target_is_met_up_to_its_number_and_missed_by_the_rest():
    at, above = against_targets([row(1.2), row(1.44)])
    assert (at["met"], at["missed_by"]) == (True, 0.0)
    assert (above["met"], above["missed_by"]) == (False, pytest.approx(0.24))
    assert against_targets([row(1.0, width=8)]) == []
    assert [t["at_most"] for t in against_targets([row(1.0, case="rollout", width=8)])] == [1.02]


def test_true_bound_is_the_product_of_the_exact_norms():
    net = stacked(nn.Linear, 8)
    with torch.no_grad():
        for module, norm in zip((m for m in net if isinstance(m, nn.Linear)), (2.0, 3.0, 0.5), strict=True):
            module.weight.zero_()[0, :2] = norm / math.sqrt(2)
    assert true_bound(net, "l2") == (pytest.approx(3.0), "product")
    assert true_bound(net, "linf") == (pytest.approx(3.0 * 2**1.5), "product")


def test_true_bound_tells_an_estimate_from_a_bound():
    torch.manual_seed(0)
    net = stacked(lambda n, m: parametrizations.spectral_norm(nn.Linear(n, m)), 8)
    with torch.no_grad():
        for module in (m for m in net if isinstance(m, nn.Linear)):
            module.parametrizations.weight.original.copy_(torch.randn_like(module.weight))
    assert true_bound(net.eval(), "l2")[0] > 1.1  # the power iteration has not seen these weights
    assert as_bound(true_bound(net, "l2")[0]).endswith("ABOVE")


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_steps_train_the_network_that_is_measured(name):
    torch.manual_seed(0)
    net = lipschitz_network(name, 8)
    before = [p.detach().clone() for p in net.parameters()]
    step_and_act(net)()
    assert net.training
    train_step(net)()
    assert all(not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    bound, how = true_bound(net, LAYERS[name].norm)
    assert net.training
    assert 0.0 < bound <= 1.0
    layer = net.layers[0].factors()
    assert how == ("product" if layer.output is None and layer.skip is None else "construction")


def test_a_peer_that_breaks_is_skipped_with_its_error(monkeypatch):
    def broken(n_in, n_out):
        raise RuntimeError("no such operator")

    monkeypatch.setitem(PEERS, "geotorch", replace(PEERS["geotorch"], linear=broken))
    entries, skipped = choose([], ["torch-cayley", "geotorch"])
    assert list(entries) == [PLAIN, "torch-cayley"]
    assert "does not run with torch" in skipped["geotorch"]
    assert "no such operator" in skipped["geotorch"]


def test_a_missing_dependency_of_a_peer_is_not_called_a_missing_peer():
    def needs_more(n_in, n_out):
        raise ModuleNotFoundError("No module named 'einops'", name="einops")

    reason = Peer(needs_more, "", "orthogonium", "orthogonium").why_absent()
    assert reason == "orthogonium does not import: No module named 'einops'"


def test_rounds_are_interleaved_and_each_function_gets_its_calls():
    seen: list[str] = []
    functions = {name: (lambda name=name: seen.append(name)) for name in "abc"}
    rounds: list[int] = []
    times = interleave(functions, {"a": 1, "b": 2, "c": 3}, 5, after_round=lambda: rounds.append(len(seen)))
    assert rounds == [6, 12, 18, 24, 30]
    assert {name: len(values) for name, values in times.items()} == {"a": 5, "b": 5, "c": 5}
    blocks = ["".join(seen[end - 6 : end]) for end in rounds]
    assert all(sorted(block) == sorted("abbccc") for block in blocks)
    assert len(set(blocks)) > 1  # the order changes


def test_calls_are_rounded_up_to_whole_periods():
    assert calls_within(1e-4, lambda: None, multiple_of=16) % 16 == 0
    assert calls_within(1e-9, lambda: sum(range(1000))) == 1


def test_ratio_is_paired_by_round():
    slow_round = [1.0, 10.0, 1.0]
    assert paired_ratio([2.0, 20.0, 2.0], slow_round) == (2.0, 2.0, 2.0)
