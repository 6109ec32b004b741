"""Lipschitz policies for PPO (and A2C and TRPO, which share SB3's actor-critic policy class)."""

from __future__ import annotations

from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import CombinedExtractor, NatureCNN

from lipsrl.policies._actor_critic import LipschitzActorCritic


class MlpPolicy(LipschitzActorCritic, ActorCriticPolicy):
    """Actor-critic policy whose deterministic action is ``lipschitz_bound``-Lipschitz in the observation.

    The promise (l2, environment's action units per unit of the observation that the policy receives)::

        ‖π(o) - π(o′)‖₂ ≤ lipschitz_bound · ‖(o - o′) / observation_scale‖₂

    through features extractor, network, and clip (or gSDE's tanh and rescaling) to the action space. For
    discrete actions it is on the logits; a discrete observation counts as its one-hot vector, an image in grey levels
    (0 to 255). Sampled actions add noise of the policy's own standard deviation, which does not depend on the
    observation except under gSDE.

    Args:
        lipschitz_bound: K > 0; required. ``math.inf`` gives SB3's own policy, to the bit.
        layer: key of :data:`lipsrl.layers.LAYERS`. Default: ``"sandwich"``; ``"spectral"`` for Q-networks (DQN,
            QR-DQN), which learn more slowly with the others (docs/pace.md).
        norm: ``"l2"``, or ``"linf"`` with ``layer="linf"``: the promise then holds in that norm.
        budget: how K is split over the layers, key of :data:`lipsrl.layers.BUDGETS`. ``None``: ``"growing"`` in l2,
            which starts as SB3's own policy would and learns at its pace; ``"output"`` in l-inf.
        observation_scale: one fixed scale per sensor (or one for all): K then means "per unit of datasheet". For a Dict
            observation a dict of scales by key, one number for each image.
        activation: key of :data:`lipsrl.layers.ACTIVATIONS`; or SB3's ``activation_fn``. Default: SB3's own.
        critic_lipschitz_bound: K of the critic, per unit of the observation; ``None``: the critic stays plain.
        net_arch: as in SB3.
        features_extractor_class: a class that knows its own Lipschitz constant: an attribute ``bound`` that it keeps at
            all times, and ``lipschitz_bound()``, measured. K covers it.
        ortho_init: applies to the value network; accepted for compatibility.
        regularizers: soft losses that the training adds, as :func:`lipsrl.regularizers.regularize` takes them, or as
            data: ``[dict(name="CAPS", temporal=0.1)]``.

    Other arguments are those of :class:`stable_baselines3.common.policies.ActorCriticPolicy`.

    Raises:
        ValueError: an argument is missing, out of range or unknown, or the spaces are not covered.
    """


class CnnPolicy(MlpPolicy):
    """:class:`MlpPolicy` for images, behind a :class:`~lipsrl.policies.LipschitzNatureCNN`."""

    extractor = NatureCNN


class MultiInputPolicy(MlpPolicy):
    """:class:`MlpPolicy` for Dict observations, behind a :class:`~lipsrl.policies.LipschitzCombinedExtractor`."""

    extractor = CombinedExtractor
