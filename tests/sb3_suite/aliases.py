"""pytest plugin: SB3's own aliases name our policies, with a default bound; its tests then run on them unchanged."""

from __future__ import annotations

import sb3_contrib
import stable_baselines3

import lipsrl.policies
from lipsrl.policies import ALIASES

#: SB3's tests give no bound. Loose enough to learn, tight enough to be a constraint.
DEFAULT_BOUND = 10.0


def _with_default_bound(base, name):
    def __init__(self, *args, lipschitz_bound=DEFAULT_BOUND, **kwargs):
        super(cls, self).__init__(*args, lipschitz_bound=lipschitz_bound, **kwargs)

    cls = type(name, (base,), {"__init__": __init__, "__module__": __name__, "__doc__": base.__doc__})
    globals()[name] = cls  # pickled by reference
    return cls


ALGORITHMS = {
    stable_baselines3: ("A2C", "DDPG", "DQN", "PPO", "SAC", "TD3"),
    sb3_contrib: ("ARS", "CrossQ", "MaskablePPO", "QRDQN", "TQC", "TRPO"),
}

for _package, _names in ALGORITHMS.items():
    for _algorithm in _names:
        _aliases = dict(getattr(_package, _algorithm).policy_aliases)
        for _ours, _stock in ALIASES.items():
            if _ours in _aliases:
                _aliases[_stock] = _with_default_bound(_aliases[_ours], f"{_algorithm}{_stock}")
        getattr(_package, _algorithm).policy_aliases = _aliases


def pytest_report_header():
    return f"lipsrl {lipsrl.__version__}: MlpPolicy, CnnPolicy and MultiInputPolicy are ours, K = {DEFAULT_BOUND:g}"
