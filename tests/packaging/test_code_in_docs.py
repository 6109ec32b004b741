"""Every Python block of README and docs runs as it stands, page by page, from top to bottom.

What a page takes for granted ("your model") is in `given`; names of lipsrl, SB3 and Gymnasium are not: a
block imports what it uses. Trainings, distillations and searches are cut short: tested is that the code is right.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import lipsrl

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(page):
    text = page.read_text(encoding="utf-8")
    found = [(text[: match.start()].count("\n") + 2, match.group(1)) for match in BLOCK.finditer(text)]
    return [(line, code) for line, code in found if ">>>" not in code]  # those are doctests


CONSTRAINED = "LipschitzMlpPolicy"


def ppo(env_id="Pendulum-v1", policy="MlpPolicy", **options):
    return PPO(policy, env_id, n_steps=64, device="cpu", seed=0, **options)


def normalized():
    env = VecNormalize(DummyVecEnv([lambda: gym.make("Pendulum-v1")]))
    model = ppo(env)
    model.learn(64)
    return model


def given(page, folder):
    """What a reader of this page has."""
    model = normalized()
    statistics = model.get_vec_normalize_env()
    env = gym.make("Pendulum-v1")
    observation, _ = env.reset(seed=0)
    run = folder / "run"
    run.mkdir()
    model.save(run / "model.zip")
    statistics.save(str(run / "vecnormalize.pkl"))
    statistics.save("vecnormalize.pkl")
    plain = ppo()
    plain.save("stock.zip")
    states = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, -1.0]])
    bound = {"lipschitz_bound": 5.0}
    # what one page alone has is made for that page alone
    pages: dict[str, Callable[[], dict[str, object]]] = {
        "attacks": lambda: {
            "models": {"plain": plain, "lipschitz": ppo(policy=CONSTRAINED, policy_kwargs=bound)}
        },
        "certificates": lambda: {"model": model, "states": states},
        "dashboard": lambda: {
            "evaluation": lipsrl.evaluate(plain, "Pendulum-v1", disturbances="gaussian", n_episodes=1)
        },
        "deployment": lambda: {"model": model, "episodes": 2},
        "distillation": lambda: {"model": model},
        "evaluation": lambda: {"plain": ppo("Hopper-v5"), "smooth": ppo("Hopper-v5")},
        "metrics": lambda: {"model": model, "vec_normalize": statistics},
        "policies": lambda: {"model": ppo(policy=CONSTRAINED, policy_kwargs=bound)},
        "stochastic-certificates": lambda: {
            "model": ppo("CartPole-v1"),
            "observations": np.zeros((4, 4)),
            "run": run,
        },
    }
    everywhere = {"model": plain, "observation": observation, "env": env}
    return {**everywhere, **pages.get(page.stem, dict)()}


@pytest.fixture
def short(monkeypatch):
    """The same calls with small budgets."""
    evaluate = lipsrl.evaluate
    for algorithm in (PPO, SAC):
        monkeypatch.setattr(
            algorithm,
            "learn",
            lambda self, steps, *a, full=algorithm.learn, **k: full(self, 64, *a, **k),
        )
    quick = {"rounds": 1, "steps": 10}
    monkeypatch.setattr(
        lipsrl,
        "evaluate",
        lambda *a, **k: evaluate(*a, **{**k, "n_episodes": 2, "n_workers": 1}),
        raising=False,
    )
    monkeypatch.setattr(lipsrl, "distill", functools.partial(lipsrl.distill, **quick), raising=False)
    frontier = lipsrl.distillation.frontier
    monkeypatch.setattr(
        lipsrl.distillation,
        "frontier",
        lambda *a, **k: frontier(
            *a, **{**k, **quick, "n_workers": 1, "n_episodes": 2, "bounds": k["bounds"][:2]}
        ),
    )
    certificate = lipsrl.certificates.return_quantile_certificate
    monkeypatch.setattr(
        lipsrl.certificates,
        "return_quantile_certificate",
        lambda *a, **k: certificate(*a, **{**k, "n_episodes": 8}),
    )
    searches = {
        "ConstantBiasAttack": {"episodes": 1, "candidates": 4, "max_episode_steps": 5},
        "RobustSarsaAttack": {"steps": 2, "rollout_steps": 60, "updates": 5},
    }
    for name, options in searches.items():
        monkeypatch.setattr(lipsrl.attacks, name, functools.partial(getattr(lipsrl.attacks, name), **options))


def test_there_are_blocks():
    assert sum(len(blocks(page)) for page in PAGES) > 20


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page, short, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = given(page, tmp_path)
    for line, code in blocks(page):
        exec(compile("\n" * (line - 1) + code, str(page), "exec"), names)
