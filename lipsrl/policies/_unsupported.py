"""The error for algorithms that have no Lipschitz policy."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.policies import BasePolicy


class UnsupportedPolicy(BasePolicy):
    """Stands behind the alias where there is nothing better: SB3's own error would only say "unknown"."""

    reason = "there is no Lipschitz policy for this algorithm"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise ValueError(
            f"LipschitzMlpPolicy is not available here: {self.reason}. Use PPO, A2C, SAC, TD3, DDPG or DQN, or "
            "TRPO, TQC, QRDQN, CrossQ, MaskablePPO or ARS of sb3-contrib; or keep this algorithm's own policy and "
            "measure it with lipsrl.evaluate."
        )

    def _predict(self, observation: Any, deterministic: bool = False) -> Any:
        raise NotImplementedError


class RecurrentPolicy(UnsupportedPolicy):
    """RecurrentPPO's."""

    reason = (
        "the action of a recurrent policy depends on all observations before, through an LSTM whose gates multiply "
        "its state, so no bound per unit of one observation holds"
    )
