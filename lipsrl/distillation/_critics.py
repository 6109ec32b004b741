"""What a student takes over: everything but the actor, also where it sees more observations at once."""

from __future__ import annotations

import copy

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import recursive_getattr
from torch import Tensor, nn

from lipsrl.policies._unwrapped import policy_of

#: Where a policy's state dict holds the actor, which the student learns; all else is copied.
_ACTOR = (
    "actor.",
    "actor_target.",
    "mlp_extractor.policy_net.",
    "action_net.",
    "q_net.",
    "q_net_target.",
    "quantile_net.",
    "quantile_net_target.",
)
#: Optimizers whose moments belong to the actor's weights.
_ACTOR_OPTIMIZERS = ("policy.optimizer", "actor.optimizer")


def actor_parameters(policy: BasePolicy) -> list[nn.Parameter]:
    """The actor's own, without targets; what is learned where no bound holds it in one network."""
    return [
        parameter
        for name, parameter in policy.named_parameters()
        if name.startswith(_ACTOR) and not name.split(".")[0].endswith("_target") and parameter.requires_grad
    ]


def copy_to_targets(policy: BasePolicy) -> None:
    """Let the target networks of the actor be what the actor is."""
    modules = dict(policy.named_children())
    for name, target in modules.items():
        if name.endswith("_target") and f"{name}.".startswith(_ACTOR):
            target.load_state_dict(modules[name.removesuffix("_target")].state_dict())


def check_longer_window(teacher: BaseAlgorithm) -> None:
    """Refuse a critic that cannot be widened.

    Raises:
        ValueError: a Lipschitz critic, whose weights are factors.
    """
    options = getattr(policy_of(teacher), "options", None)
    if getattr(options, "critic_lipschitz_bound", None) is not None:
        raise ValueError(
            "history: the teacher was trained with critic_lipschitz_bound, and a constrained critic cannot be widened "
            "to a longer window. Distil a teacher with a free critic, or leave history out."
        )


def copy_critics(teacher: BaseAlgorithm, student: BaseAlgorithm) -> None:
    """Give ``student`` all that ``teacher`` has learned besides its actor.

    Critics of a student with a longer window judge its newest observations as the teacher's do: what belongs to the
    earlier ones has weight 0. Their optimizers then start anew.
    """

    def taken_over(name: str) -> bool:
        # gSDE's log_std is a matrix over the actor's own features
        return not name.startswith(_ACTOR) and not (name == "log_std" and teacher.use_sde)

    wider = student.observation_space.shape != teacher.observation_space.shape
    for name, state in teacher.get_parameters().items():
        if name == "policy":
            own = student.policy.state_dict()
            shared = {key: _widened(value, own[key]) for key, value in state.items() if taken_over(key)}
            student.policy.load_state_dict({**own, **shared})
        elif name not in _ACTOR_OPTIMIZERS and not (wider and name.startswith("critic")):
            recursive_getattr(student, name).load_state_dict(copy.deepcopy(state))
    for name in teacher._get_torch_save_params()[1]:
        with torch.no_grad():
            recursive_getattr(student, name).copy_(recursive_getattr(teacher, name))


def _widened(given: Tensor, own: Tensor) -> Tensor:
    """``given`` as the last of the inputs of ``own``; weights of the earlier ones are 0, statistics as they start."""
    if given.shape == own.shape:
        return given
    wide = torch.zeros_like(own) if own.ndim > 1 else own.clone()
    wide[..., own.shape[-1] - given.shape[-1] :] = given
    return wide
