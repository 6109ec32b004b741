"""ASAP: actions near those predicted from the observation before, and small second differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from lipsrl.regularizers._base import Regularizer
from lipsrl.regularizers._batch import Batch, Memory, masked_mean
from lipsrl.regularizers._weights import Weight
from lipsrl.regularizers.grad_caps import zigzag_loss


def prediction_loss(prediction: Tensor, action: Tensor, mask: Tensor) -> Tensor:
    """``½·E[(a - â)²]``, mean over the actions.

    "Enhancing control policy smoothness by aligning actions with predictions from preceding states" (ASAP, 2601.18479):
    with the prediction free and the action fixed it is what the prediction learns, the other way round what aligns the
    action (L_P, L_S).

    Args:
        prediction, action: (n, act) φ(o_t) and μ(o_{t+1}).
        mask: (n,) 1 where both are of one episode.
    """
    return 0.5 * masked_mean((prediction - action).square().mean(dim=1), mask)


class Predictor:
    """A linear head on what the actor's last layer receives: o_t → the action at o_{t+1}; with an Adam of its own.

    It is made at its first use, when that width is known; its draws are its own.
    """

    def __init__(self, seed: int, kept: Any = None) -> None:
        self.seed, self.kept = seed, kept
        self.head: nn.Linear | None = None
        self.optimizer: torch.optim.Adam | None = None

    def __call__(self, latent: Tensor, n_actions: int) -> Tensor:
        """(n, act) prediction."""
        if self.head is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                self.head = nn.Linear(latent.shape[1], n_actions)
            self.head.to(latent.device)
            self.optimizer = torch.optim.Adam(self.head.parameters())
            if self.kept is not None:
                self.head.load_state_dict(_as_tensors(self.kept["head"]))
                self.optimizer.load_state_dict(_as_tensors(self.kept["optimizer"]))
        prediction: Tensor = self.head(latent)
        return prediction

    def step(self, learning_rate: float) -> None:
        """Adam's, at the agent's learning rate, if a gradient has arrived since the last."""
        if self.head is None or self.optimizer is None or self.head.weight.grad is None:
            return
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def plain(self) -> Any:
        """Weights and Adam's state as NumPy arrays; on the CPU they share their memory."""
        if self.head is None or self.optimizer is None:
            return self.kept
        return _as_arrays({"head": self.head.state_dict(), "optimizer": self.optimizer.state_dict()})


def _as_arrays(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy()
    if isinstance(value, dict):
        return {key: _as_arrays(one) for key, one in value.items()}
    return [_as_arrays(one) for one in value] if isinstance(value, (list, tuple)) else value


def _as_tensors(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return torch.as_tensor(value.copy())
    if isinstance(value, dict):
        return {key: _as_tensors(one) for key, one in value.items()}
    return [_as_tensors(one) for one in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class ASAP(Regularizer):
    """Action smoothing by aligning actions with predictions from preceding states (2601.18479).

    ``λ_P·L_P + λ_S·L_S + λ_T·L_T``: a head on the actor's last hidden layer learns to predict the next action (and that
    layer with it); the action is drawn to what was predicted one step before; L_T is Grad-CAPS's
    :func:`~lipsrl.regularizers.grad_caps.zigzag_loss`. Start (λ_P, λ_S, λ_T): Hopper (2, 0.3, 0.07), Pendulum
    (2, 0.03, 0.005).

    Args:
        prediction: λ_P. With 0 the head learns nothing.
        spatial: λ_S.
        temporal: λ_T.

    Raises:
        ValueError: a weight is negative or no number.
    """

    prediction: Weight = 2.0
    spatial: Weight = 0.3
    temporal: Weight = 0.07

    name: ClassVar[str] = "asap"
    actor_terms: ClassVar[tuple[str, ...]] = ("prediction", "spatial", "temporal")
    needs: ClassVar[frozenset[str]] = frozenset({"next", "previous"})

    def memory(self, model: Any, kept: Any) -> Memory:
        return Predictor(int(model.seed or 0), kept)

    def actor_losses(self, batch: Batch, terms: Sequence[str]) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        after, before = batch.successor(), batch.predecessor()
        earlier, later = batch.means(before.observations, after.observations)
        if "prediction" in terms or "spatial" in terms:
            mean, latent = batch.networks.latent(batch.observations)
            prediction = batch.memory(latent, mean.shape[1])
            if "prediction" in terms:
                losses["prediction"] = prediction_loss(prediction, later.detach(), after.mask)
            if "spatial" in terms:
                losses["spatial"] = prediction_loss(prediction.detach(), later, after.mask)
        if "temporal" in terms:
            losses["temporal"] = zigzag_loss(earlier, batch.mean, later, before.mask * after.mask)
        return losses
