"""A clear word where an algorithm has no Lipschitz policy."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.policies import BasePolicy


class UnsupportedPolicy(BasePolicy):
    """Stands behind the alias where there is nothing better: SB3's own error would only say "unknown"."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise ValueError(
            "LipschitzMlpPolicy is available for PPO, A2C and SAC. For another algorithm use its own MlpPolicy; "
            "lipsrl.certify and lipsrl.evaluate work on it."
        )

    def _predict(self, observation: Any, deterministic: bool = False) -> Any:
        raise NotImplementedError
