"""SB3's algorithms know our policies by one word, from the import of lipsrl on."""

import importlib
import subprocess
import sys
from typing import ClassVar

import pytest
import stable_baselines3

from lipsrl._aliases import _ALGORITHMS, ALIASES, register_aliases

ALGORITHMS = [
    (importlib.import_module(package), name) for package, names in _ALGORITHMS.items() for name in names
]


def test_importing_lipsrl_imports_no_policy_and_no_sb3_contrib():
    code = """
import sys, lipsrl
print([m for m in sys.modules if m.startswith(("lipsrl.policies", "lipsrl.layers", "sb3_contrib"))])
from sb3_contrib import TQC, TRPO
print(TQC.policy_aliases["LipschitzMlpPolicy"].__module__, "LipschitzMlpPolicy" in TRPO.policy_aliases)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\nlipsrl.policies.tqc True\n"


@pytest.mark.parametrize(
    ("package", "name"), ALGORITHMS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_alias_is_a_policy_of_its_familys_module(package, name):
    ours = {k: v for k, v in getattr(package, name).policy_aliases.items() if k.startswith("Lipschitz")}
    assert ours
    for alias, policy in ours.items():
        assert issubclass(policy, stable_baselines3.common.policies.BasePolicy)
        if name == "RecurrentPPO":
            continue
        assert policy.__name__ == alias.removeprefix("Lipschitz")
        family = sys.modules[policy.__module__]
        assert {a for a, cls in ALIASES.items() if hasattr(family, cls)} <= set(ours)


def test_the_table_is_still_a_mapping_of_classes():
    aliases = stable_baselines3.SAC.policy_aliases
    assert dict(aliases) == {**aliases} == dict(aliases.items())
    assert all(isinstance(policy, type) for policy in aliases.values())
    assert aliases.get("LipschitzMLPPolicy") is None
    before = dict(aliases)
    register_aliases()
    assert dict(stable_baselines3.SAC.policy_aliases) == before


def test_algorithms_of_others_are_left_alone():
    class Own(stable_baselines3.PPO):
        policy_aliases: ClassVar = {"MlpPolicy": stable_baselines3.ppo.MlpPolicy}

    class PPO(stable_baselines3.PPO):  # ours only by its name
        policy_aliases: ClassVar = {"MlpPolicy": stable_baselines3.ppo.MlpPolicy}

    for algorithm in (Own, PPO):
        assert list(algorithm.policy_aliases) == ["MlpPolicy"]
    with pytest.raises(ValueError, match="Did you mean 'LipschitzMlpPolicy'"):
        stable_baselines3.PPO("LipschitzMLPPolicy", "Pendulum-v1")
