"""The gradients are those of SB3's train() with the loss written into it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sb3_contrib import TQC
from stable_baselines3 import A2C, PPO, SAC, TD3

from lipsrl.regularizers import CAPS, PAVE, ActionRate, GradientPenalty, regularize
from tests.regularizers.helpers import STEPS, edited_train, learn_edited, same_training, tiny

TEMPORAL = 0.7

#: Where the loss is written in: algorithm → (class, replacements).
EDITS = {
    "PPO": (
        PPO,
        ("in self.rollout_buffer.get(self.batch_size):", "in with_successors(self, self.batch_size):"),
        (
            " + self.vf_coef * value_loss\n",
            " + self.vf_coef * value_loss + caps(self, rollout_data)\n",
        ),
    ),
    "A2C": (
        A2C,
        ("in self.rollout_buffer.get(batch_size=None):", "in with_successors(self, None):"),
        (
            " + self.vf_coef * value_loss\n",
            " + self.vf_coef * value_loss + caps(self, rollout_data)\n",
        ),
    ),
    "SAC": (
        SAC,
        (
            "actions_pi, log_prob = self.actor.action_log_prob(replay_data.observations)\n",
            "actions_pi, log_prob = self.actor.action_log_prob(replay_data.observations)\n"
            "        self.mean = self.actor.action_dist.mode()\n",
        ),
        (
            "actor_loss = (ent_coef * log_prob - min_qf_pi).mean()\n",
            "actor_loss = (ent_coef * log_prob - min_qf_pi).mean() + caps(self, replay_data)\n",
        ),
    ),
    "TQC": (
        TQC,
        (
            "actions_pi, log_prob = self.actor.action_log_prob(replay_data.observations)\n",
            "actions_pi, log_prob = self.actor.action_log_prob(replay_data.observations)\n"
            "        self.mean = self.actor.action_dist.mode()\n",
        ),
        (
            "actor_loss = (ent_coef * log_prob - qf_pi).mean()\n",
            "actor_loss = (ent_coef * log_prob - qf_pi).mean() + caps(self, replay_data)\n",
        ),
    ),
    "TD3": (
        TD3,
        (
            "actor_loss = -self.critic.q1_forward("
            "replay_data.observations, self.actor(replay_data.observations)).mean()\n",
            "self.actions_pi = self.actor(replay_data.observations)\n"
            "            actor_loss = -self.critic.q1_forward(replay_data.observations, self.actions_pi).mean()\n"
            "            actor_loss = actor_loss + caps(self, replay_data)\n",
        ),
    ),
}
EDITS["DDPG"] = EDITS["TD3"]


def with_successors(model, batch_size):
    """The rollout buffer's minibatches, with o_{t+1}: written from the layout (step, env), row by row."""
    buffer = model.rollout_buffer
    n_steps, n_envs = buffer.buffer_size, buffer.n_envs
    successors, mask = np.zeros((n_envs * n_steps, 3), np.float32), np.zeros(n_envs * n_steps, np.float32)
    if not buffer.generator_ready:
        model.kept = buffer.observations.copy(), buffer.episode_starts.copy()
    observations, starts = model.kept
    for env in range(n_envs):
        for step in range(n_steps):
            row = env * n_steps + step
            if step + 1 < n_steps:
                successors[row], mask[row] = observations[step + 1, env], 1 - starts[step + 1, env]
            else:
                successors[row], mask[row] = model._last_obs[env], 1 - model._last_episode_starts[env]
    stock = buffer._get_samples

    def noting(rows, env=None):
        model.rows = rows
        return stock(rows)

    buffer._get_samples = noting
    try:
        for samples in buffer.get(batch_size):
            model.successors = torch.as_tensor(successors[model.rows]), torch.as_tensor(mask[model.rows])
            yield samples
    finally:
        del buffer._get_samples


def caps(model, samples):
    """L_T of CAPS, straight from the paper."""
    half = (model.action_space.high.astype(np.float64) - model.action_space.low) / 2
    if hasattr(model, "rollout_buffer"):
        policy, unit = model.policy, torch.as_tensor(1 / half, dtype=torch.float32)
        successors, mask = model.successors
        mean = policy.action_dist.mode()  # as evaluate_actions has left it
        following = policy.get_distribution(successors).distribution.mean
    else:
        successors, mask = samples.next_observations, torch.ones(len(samples.actions))
        actor, unit = model.actor, torch.ones(2)
        if hasattr(actor, "action_dist"):
            mean, following = model.mean, actor(successors, deterministic=True)
        else:
            mean, following = model.actions_pi, actor(successors)
    moves = torch.linalg.vector_norm(mean * unit - following * unit, dim=1)
    return TEMPORAL * ((moves * mask).sum() / mask.sum())


@pytest.mark.parametrize("algorithm", EDITS)
@pytest.mark.parametrize("bound", [None, 3.0])
def test_equals_an_edited_train_to_the_bit(algorithm, bound):
    cls, *replacements = EDITS[algorithm]
    train = edited_train(cls, *replacements)
    train.__globals__.update(caps=caps, with_successors=with_successors)
    ours = regularize(tiny(algorithm, bound=bound), CAPS(temporal=TEMPORAL, spatial=0.0)).learn(STEPS)
    theirs = learn_edited(tiny(algorithm, bound=bound), train)
    assert not same_training(tiny(algorithm, bound=bound).learn(STEPS), ours)
    assert same_training(theirs, ours)


def plainly(model, samples):
    """The same, with a forward pass for each observation and other operations: no order of sums is shared."""
    half = torch.as_tensor((model.action_space.high - model.action_space.low) / 2)

    def mean(observations):
        if hasattr(model, "rollout_buffer"):
            return model.policy.get_distribution(observations).distribution.mean / half
        return model.policy._predict(observations, deterministic=True)

    on_policy = hasattr(model, "rollout_buffer")
    successors, mask = (
        model.successors if on_policy else (samples.next_observations, torch.ones(len(samples.actions)))
    )
    total, n = 0.0, 0.0
    for row in range(len(mask)):
        move = mean(samples.observations[row : row + 1]) - mean(successors[row : row + 1])
        total, n = total + mask[row] * torch.sqrt((move**2).sum()), n + mask[row]
    return TEMPORAL * total / n


def rate(model, samples):
    """Second differences of the actions at o_{t-1}, o_t, o_{t+1} of one episode, looked up by hand."""
    half = torch.as_tensor((model.action_space.high - model.action_space.low) / 2)
    (observations, starts), n_steps = model.kept, model.rollout_buffer.buffer_size

    def at(env, step):
        if step < n_steps:
            return observations[step, env], starts[step, env]
        return model._last_obs[env], model._last_episode_starts[env]

    bends = []
    for row in model.rows:
        env, step = divmod(int(row), n_steps)
        if step == 0:
            continue
        (before, _), (now, fresh), (after, over) = (at(env, one) for one in (step - 1, step, step + 1))
        if fresh or over:
            continue
        rows = torch.as_tensor(np.stack([before, now, after]), dtype=torch.float32)
        first, second, third = (
            model.policy.get_distribution(o[None]).distribution.mean[0] / half for o in rows
        )
        bends.append(((third - 2 * second + first) ** 2).sum())
    return TEMPORAL * torch.stack(bends).mean()


def slope(model, samples):
    """‖∂μ/∂o‖² of every row, by itself."""
    half = torch.as_tensor((model.action_space.high - model.action_space.low) / 2)

    def mean(observation):
        if hasattr(model, "rollout_buffer"):
            return model.policy.get_distribution(observation[None]).distribution.mean[0] / half
        return model.policy._predict(observation[None], deterministic=True)[0]

    jacobians = [
        torch.autograd.functional.jacobian(mean, row, create_graph=True) for row in samples.observations
    ]
    return TEMPORAL * torch.stack([(jacobian**2).sum() for jacobian in jacobians]).mean()


def field(model, samples):
    """‖∇_a Q(o_t, a) - ∇_a Q(o_{t+1}, a)‖² of each critic, at the buffer's actions, mean over their coordinates."""
    total = 0.0
    for critic in range(len(model.critic.q_networks)):
        for row in range(len(samples.actions)):
            action = samples.actions[row : row + 1].clone().requires_grad_(True)
            here, there = (
                torch.autograd.grad(
                    model.critic(observations[row : row + 1], action)[critic].sum(), action, create_graph=True
                )[0]
                for observations in (samples.observations, samples.next_observations)
            )
            total = total + ((here - there) ** 2).mean() / len(samples.actions)
    return TEMPORAL * total


#: The critic's loss in train(): algorithm → (class, replacement).
CRITIC_EDITS = {
    "SAC": (
        SAC,
        (
            "critic_loss = 0.5 * sum(F.mse_loss(current_q, target_q_values) for current_q in current_q_values)\n",
            "critic_loss = 0.5 * sum(F.mse_loss(current_q, target_q_values) for current_q in current_q_values)"
            " + caps(self, replay_data)\n",
        ),
    ),
    "TD3": (
        TD3,
        (
            "critic_loss = sum(F.mse_loss(current_q, target_q_values) for current_q in current_q_values)\n",
            "critic_loss = sum(F.mse_loss(current_q, target_q_values) for current_q in current_q_values)"
            " + caps(self, replay_data)\n",
        ),
    ),
}


@pytest.mark.parametrize(
    ("algorithm", "method", "plain", "edits"),
    [
        *((algorithm, CAPS(temporal=TEMPORAL, spatial=0.0), plainly, EDITS) for algorithm in ("PPO", "SAC", "TD3")),
        ("PPO", ActionRate(TEMPORAL), rate, EDITS),
        *(
            (algorithm, GradientPenalty(TEMPORAL, kind="mean"), slope, EDITS)
            for algorithm in ("A2C", "SAC", "TD3")
        ),
        *(
            (algorithm, PAVE(mixed=0.0, field=TEMPORAL, curvature=0.0), field, CRITIC_EDITS)
            for algorithm in ("SAC", "TD3")
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "name", ""),
)  # fmt: skip
def test_first_gradient_equals_to_rounding(algorithm, method, plain, edits, monkeypatch):
    """One backward pass, before any optimizer has blown rounding up."""
    cls, *replacements = edits[algorithm]
    train = edited_train(cls, *replacements)
    train.__globals__.update(caps=plain, with_successors=with_successors)

    def first_gradients(model):
        seen = []
        owner = getattr(model.policy, "critic" if edits is CRITIC_EDITS else "actor", model.policy)
        optimizer = owner.optimizer if hasattr(owner, "optimizer") else model.policy.optimizer
        step = optimizer.step

        def noting(*args, **kwargs):
            seen.append([p.grad.clone() for g in optimizer.param_groups for p in g["params"]])
            return step(*args, **kwargs)

        monkeypatch.setattr(optimizer, "step", noting)
        return model, seen

    ours, mine = first_gradients(regularize(tiny(algorithm), method))
    ours.learn(16)
    theirs, edited = first_gradients(tiny(algorithm))
    learn_edited(theirs, train, 16)
    stock_model, stock = first_gradients(tiny(algorithm))
    stock_model.learn(16)
    for a, b in zip(mine[0], edited[0], strict=True):
        torch.testing.assert_close(a, b, rtol=5e-5, atol=1e-7)
    assert any(not torch.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in zip(mine[0], stock[0], strict=True))
