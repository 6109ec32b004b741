"""The student before its first lesson: the teacher's SB3 class, with everything but the actor taken over."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, VecNormalize

from lipsrl.actors.normalization import normalizes_frames
from lipsrl.actors.statistics import rewards_normalised
from lipsrl.distillation._critics import check_longer_window, copy_critics
from lipsrl.layers import LAYERS
from lipsrl.policies import ALIAS, UnsupportedPolicy
from lipsrl.policies._unwrapped import policy_of

#: What a policy has whose actor is found there.
_OWNERS = ("mlp_extractor", "actor", "q_net", "quantile_net")
#: The algorithms whose agents can be distilled, in words.
ACCEPTED = "PPO, A2C, SAC, TD3, DDPG, DQN, and TRPO, TQC, QRDQN, CrossQ, MaskablePPO of sb3-contrib"
#: What the teacher saw last in its own environments means nothing in the student's.
_OF_THE_ENVIRONMENT = ("_last_obs", "_last_original_obs", "_last_episode_starts")


def check_teacher(teacher: Any) -> None:
    """Refuse a model that has no Lipschitz twin here.

    Raises:
        TypeError: not an SB3 model.
        ValueError: its algorithm or its actor is not supported; says which.
    """
    if not isinstance(teacher, BaseAlgorithm):
        raise TypeError(
            f"model must be a trained Stable-Baselines3 model, received {type(teacher).__name__}. Load a zip "
            "first, for example with PPO.load(path)."
        )
    if issubclass(teacher.policy_aliases.get(ALIAS, UnsupportedPolicy), UnsupportedPolicy):
        raise ValueError(
            f"model is a {type(teacher).__name__}, for which there is no {ALIAS} to distil into. Accepted: {ACCEPTED}."
        )
    policy: Any = policy_of(teacher)
    if not any(hasattr(policy, owner) for owner in _OWNERS):
        raise ValueError(
            f"model is a {type(teacher).__name__} with a {type(policy).__name__}, which has no differentiable actor "
            f"that is known here. Accepted: {ACCEPTED}."
        )
    if policy.features_extractor_class is not FlattenExtractor:
        raise ValueError(
            f"model's policy has the features extractor {policy.features_extractor_class.__name__}, which a student "
            "cannot take over. Accepted: teachers on vector observations with SB3's FlattenExtractor, as MlpPolicy has."
        )
    if getattr(getattr(policy, "options", None), "log_std_lipschitz_bound", None) is not None:
        raise ValueError(
            "model was trained with log_std_lipschitz_bound, a promise that a student cannot take over yet. Distil a "
            "teacher that was trained without it."
        )


def build_student(
    teacher: BaseAlgorithm,
    make_env: Callable[[], Any],
    vec_normalize: VecNormalize | None,
    frames: int = 1,
    *,
    lipschitz_bound: float,
    layer: str,
    budget: str,
    net_arch: Sequence[int] | None,
    seed: int,
) -> BaseAlgorithm:
    """A model of the teacher's class with a fresh Lipschitz actor (Q-network), on environments of its own.

    Taken over: spaces, hyperparameters, counters, the critics (value network, target networks) and their
    optimizers, SAC's entropy coefficient, PPO's ``log_std``; the statistics of ``vec_normalize``, frozen. Not
    taken over: a replay buffer's content, the optimizer state of the actor.

    Args:
        make_env: makes one environment.
        frames: what the student sees at once: as much as the teacher, or more.
        lipschitz_bound, layer, budget: of the policy, see :class:`lipsrl.policies.ppo.MlpPolicy`.
        net_arch: widths of the actor; None: the teacher's.
        seed: of the actor's initial weights. The model keeps the teacher's ``seed``; no global generator moves.
    """
    cls = type(teacher)
    venv = student_environments(make_env, teacher.n_envs, vec_normalize, frames)
    if venv.observation_space.shape != teacher.observation_space.shape:
        check_longer_window(teacher)
    policy_class: Any = cls.policy_aliases[ALIAS]
    student = cls(policy_class, venv, device=teacher.device, _init_setup_model=False)  # type: ignore[call-arg]
    student.__dict__.update(hyperparameters(teacher))
    student.observation_space = venv.observation_space  # a longer window than the teacher's, perhaps
    student.policy_class = policy_class
    student.policy_kwargs = {
        **_policy_kwargs(teacher, policy_class.critic_key, net_arch),
        **_window_units(teacher, venv.observation_space),
        "lipschitz_bound": lipschitz_bound,
        "layer": layer,
        "norm": LAYERS[layer].norm,
        "budget": budget,
    }
    student.seed = None  # or the set-up would reseed every global generator with it
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        student._setup_model()
    student.seed = teacher.seed
    if vec_normalize is not None and vec_normalize.norm_obs:
        student.needs_vec_normalize = True  # type: ignore[attr-defined]  # its zip is another controller without
    if frames > 1:
        student.frame_stack = frames  # type: ignore[attr-defined]  # for whoever opens its zip: see kept_frames
    copy_critics(teacher, student)
    return student


def _window_units(teacher: BaseAlgorithm, window: spaces.Space[Any]) -> dict[str, Any]:
    """The teacher's ``observation_scale`` for each observation of a longer window."""
    scale = np.asarray((teacher.policy_kwargs or {}).get("observation_scale"), dtype=object)
    if scale.ndim != 1 or scale.size == 1:
        return {}
    size, wider = (int(np.prod(space.shape or ())) for space in (teacher.observation_space, window))
    # one observation, or as many as the teacher sees, which are all in the same units
    return {} if wider == size else {"observation_scale": np.tile(scale, -(-wider // size))[-wider:].tolist()}


def student_environments(
    make_env: Callable[[], Any], n: int, vec_normalize: VecNormalize | None, frames: int = 1
) -> VecEnv:
    """``n`` monitored environments, in a frozen copy of ``vec_normalize`` if there is one, and in a frame stack.

    What is normalised is what the statistics are of: single observations, or stacks of them.
    """
    venv: VecEnv = DummyVecEnv([lambda: Monitor(make_env())] * n)
    inside = normalizes_frames(vec_normalize, venv.observation_space.shape)
    if vec_normalize is not None and inside:
        venv = frozen_normalization(venv, vec_normalize)
    if frames > 1:
        venv = VecFrameStack(venv, frames)
    return venv if vec_normalize is None or inside else frozen_normalization(venv, vec_normalize)


def frozen_normalization(venv: VecEnv, vec_normalize: VecNormalize) -> VecNormalize:
    """``venv`` behind a copy of ``vec_normalize`` that learns nothing more."""
    # A twin of its own: were it shared, training the one model further would move the other's units.
    twin = VecNormalize(
        venv,
        training=False,
        norm_obs=vec_normalize.norm_obs,
        norm_reward=rewards_normalised(vec_normalize),
        clip_obs=vec_normalize.clip_obs,
        clip_reward=vec_normalize.clip_reward,
        gamma=vec_normalize.gamma,
        epsilon=vec_normalize.epsilon,
    )
    if vec_normalize.norm_obs:
        twin.obs_rms = copy.deepcopy(vec_normalize.obs_rms)
    twin.ret_rms = copy.deepcopy(vec_normalize.ret_rms)
    return twin


def hyperparameters(teacher: BaseAlgorithm) -> dict[str, Any]:
    """What ``teacher.save`` would write beside the networks."""
    modules, tensors = teacher._get_torch_save_params()
    left_out = {*teacher._excluded_save_params(), *(name.split(".")[0] for name in modules + tensors)}
    kept = {name: value for name, value in vars(teacher).items() if name not in left_out}
    kept.update(dict.fromkeys(_OF_THE_ENVIRONMENT))
    return copy.deepcopy(kept)


def _policy_kwargs(teacher: BaseAlgorithm, critic: str, net_arch: Sequence[int] | None) -> dict[str, Any]:
    """The teacher's own; the critic's shape written out so that its weights fit.

    Args:
        critic: its key in ``net_arch``.
        net_arch: widths of the actor; None: the teacher's.
    """
    policy: Any = policy_of(teacher)
    arch: Any = policy.net_arch
    if hasattr(policy, "q_net") or hasattr(policy, "quantile_net"):
        arch = list(arch if net_arch is None else net_arch)
    else:
        both = arch if isinstance(arch, dict) else dict.fromkeys(("pi", critic), arch)
        actor = both.get("pi", []) if net_arch is None else net_arch
        arch = {"pi": list(actor), critic: list(both.get(critic, []))}
    kwargs = copy.deepcopy(teacher.policy_kwargs)
    for name in ("ortho_init", "activation", "activation_fn"):  # of initial weights; said again below
        kwargs.pop(name, None)
    # a Lipschitz teacher's critic may have another activation than its actor
    own = getattr(policy, "options", None)
    if own is None or own.unconstrained:
        kwargs["activation_fn"] = policy.activation_fn
    else:
        kwargs["activation"] = own.activation
    return {**kwargs, "net_arch": arch}
