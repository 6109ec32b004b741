"""What a search over K tries when it goes on, and which searches its journal may answer."""

from __future__ import annotations

import pytest

from agents import get_agent
from envs import get_task
from experiments import _search
from experiments._plan import plan
from experiments._search import Search
from experiments._setup import floor_of, make_training_env, search_for_bound


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


def test_the_floor_of_a_task_is_in_the_units_of_the_statistics_as_they_are(tmp_path):
    recipe, task = get_agent("ppo-sandwich"), get_task("pendulum")
    model = recipe.build(make_training_env(recipe, task), task, seed=0)
    floor = floor_of(task)
    searching = search_for_bound(model, recipe, task, floor)
    searching.init_callback(model)  # nothing is refused before there are statistics
    model.get_vec_normalize_env().obs_rms.var[:] = (0.25, 0.25, 16.0)
    searching._floor.ask(model)
    assert searching.floor == pytest.approx(floor.floor_for([2.0, 2.0, 0.25]), rel=1e-6)
    assert searching.floor < floor.floor
    assert search_for_bound(model, recipe, task, None).floor == 0.0


def test_a_journal_of_an_earlier_version_knows_its_range(tmp_path):
    optuna = pytest.importorskip("optuna")
    journal = tmp_path / ".sweep" / "search.journal"
    range_ = {"lipschitz_bound": optuna.distributions.FloatDistribution(1.0, 10.0, log=True)}
    earlier = optuna.trial.create_trial(params={"lipschitz_bound": 3.0}, distributions=range_, value=0.3)
    _search._study(optuna, journal, "ppo-sandwich/pendulum").add_trial(earlier)
    with pytest.raises(ValueError, match="search_k"):
        tried(tmp_path, 1, search_k=(2.0, 10.0))
    assert tried(tmp_path, 1) == []
