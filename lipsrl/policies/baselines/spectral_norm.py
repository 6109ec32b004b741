"""torch's spectral_norm on the hidden layers: an estimate of the norm, and no bound."""

from __future__ import annotations

import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm


class TorchSpectralNormPolicy(ActorCriticPolicy):
    """Actor-critic policy with ``torch.nn.utils.parametrizations.spectral_norm`` on the actor's hidden layers.

    As in Gogianu et al. 2021, "Spectral normalisation for deep reinforcement learning": each hidden layer is divided
    by a power-iteration estimate of its norm. The estimate is a *lower* bound, so the layers' norms exceed one (1.3 to
    2.8 during Adam training), and the output layer is free: there is no K.
    """

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        for module in self.mlp_extractor.policy_net:
            if isinstance(module, nn.Linear):
                spectral_norm(module)
        optimizer: torch.optim.Optimizer = self.optimizer_class(
            self.parameters(),
            lr=lr_schedule(1),  # type: ignore[call-arg]
            **self.optimizer_kwargs,
        )
        self.optimizer = optimizer
