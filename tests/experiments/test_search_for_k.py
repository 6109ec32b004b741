"""What a search over K tries when it goes on, and which searches its journal may answer."""

from __future__ import annotations

import pytest

from experiments import _search
from experiments._plan import plan
from experiments._search import Search


@pytest.fixture(autouse=True)
def scores(monkeypatch):
    """Less K is better, without a training."""
    bound = lambda folder: float(folder.name.split("-K")[1].split("-")[0])  # noqa: E731
    monkeypatch.setattr(_search, "score", lambda folders, episodes: 1.0 / bound(folders[0]))


def tried(output, trials, *, seeds=(0,), search_k=(1.0, 10.0), episodes=5, **options):
    """The K of the trials that are made now."""
    found = []

    def train(configs):
        found.append(configs[0].lipschitz_bound)
        return [output / config.name for config in configs]

    configs = plan(["ppo-sandwich"], ["pendulum"], seeds, **{"timesteps": 256, **options})
    _search.search(Search(search_k, trials, episodes), configs, output, train)
    return found


def test_a_search_that_goes_on_tries_what_one_that_ran_through_tries(tmp_path):
    whole = tried(tmp_path / "whole", 5)
    parts = [bound for trials in (1, 2, 5) for bound in tried(tmp_path / "parts", trials)]
    assert parts == whole
    assert len(set(whole)) == 5
    assert tried(tmp_path / "seed", 5, seeds=(1,)) != whole


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"seeds": (0, 1)}, r"with seeds=\[0\], not seeds=\[0, 1\]"),
        ({"timesteps": 512}, "with timesteps=256, not timesteps=512"),
        ({"search_k": (1.0, 20.0)}, r"with search_k=\[1.0, 10.0\], not search_k=\[1.0, 20.0\]"),
        ({"episodes": 50}, "with search_episodes=5, not search_episodes=50"),
    ],
)
def test_another_search_is_not_answered_by_this_one(other, message, tmp_path):
    tried(tmp_path, 1)
    with pytest.raises(ValueError, match=message):
        tried(tmp_path, 1, **other)
    assert tried(tmp_path, 1) == []


def test_a_journal_of_an_earlier_version_knows_its_range(tmp_path):
    optuna = pytest.importorskip("optuna")
    journal = tmp_path / ".sweep" / "search.journal"
    range_ = {"lipschitz_bound": optuna.distributions.FloatDistribution(1.0, 10.0, log=True)}
    earlier = optuna.trial.create_trial(params={"lipschitz_bound": 3.0}, distributions=range_, value=0.3)
    _search._study(optuna, journal, "ppo-sandwich/pendulum").add_trial(earlier)
    with pytest.raises(ValueError, match="search_k"):
        tried(tmp_path, 1, search_k=(2.0, 10.0))
    assert tried(tmp_path, 1) == []
