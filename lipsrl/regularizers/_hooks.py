"""What is put around SB3's objects while ``train()`` runs, so that the losses are added, and removed afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer
from torch import Tensor

from lipsrl._unwrapped import policy_of
from lipsrl.regularizers._batch import Neighbour
from lipsrl.regularizers._families import deterministic, on_policy
from lipsrl.regularizers._pairs import ReplayNeighbours, RolloutNeighbours, watched_get_samples
from lipsrl.regularizers._ride import ride
from lipsrl.regularizers._runtime import Runtime, Sample, same


@contextmanager
def _attribute(owner: Any, name: str, value: Any) -> Iterator[None]:
    """``owner.name = value`` on the object alone, until the end of the block."""
    attributes = vars(owner)
    missing = object()
    before = attributes.get(name, missing)
    attributes[name] = value
    try:
        yield
    finally:
        if before is missing:
            del attributes[name]
        else:
            attributes[name] = before


def _release(distribution: Any) -> None:
    """Let go of the last minibatch's graph, which would forbid ``deepcopy(model)``; SB3 sets it before each use."""
    for name, value in list(vars(distribution).items()) if distribution is not None else ():
        if isinstance(value, Tensor):
            setattr(distribution, name, value.detach())
        elif isinstance(value, torch.distributions.Distribution):
            setattr(distribution, name, None)


class Hooks:
    """What one ``train()`` is watched through."""

    def __init__(self, model: Any, runtime: Runtime) -> None:
        self.model, self.runtime = model, runtime
        self.sample: Sample | None = None

    @contextmanager
    def installed(self) -> Iterator[None]:
        """While the block runs, the losses are added to what SB3 differentiates."""
        model, runtime = self.model, self.runtime
        runtime.begin(model)
        policy = policy_of(model)
        with ExitStack() as stack:
            if on_policy(model):
                self._watch_rollout(stack)
                self._around(stack, policy, "evaluate_actions", self._evaluate_actions)
            else:
                self._watch_replay(stack)
                if deterministic(model):
                    self._around(stack, policy.critic, "q1_forward", self._q1_forward)
                else:
                    self._around(stack, policy.actor, "action_log_prob", self._action_log_prob)
                handle = policy.critic.register_forward_hook(self._after_critic)
                stack.callback(handle.remove)
            yield
        runtime.end(model)
        self._check_carried()
        for holder in (policy, getattr(policy, "actor", None)):
            _release(getattr(holder, "action_dist", None))

    def _around(self, stack: ExitStack, owner: Any, name: str, hook: Callable[..., Any]) -> None:
        stock = getattr(owner, name)
        stack.enter_context(_attribute(owner, name, lambda *args: hook(stock, *args)))

    # -- buffers --

    def _watch_rollout(self, stack: ExitStack) -> None:
        model, buffer = self.model, self.model.rollout_buffer
        neighbours = RolloutNeighbours(buffer, model._last_obs, model._last_episode_starts)
        stock = buffer._get_samples

        def _get_samples(batch_inds: Any, env: Any = None) -> Any:
            samples = stock(batch_inds, env)
            self._arrived(
                Sample(
                    samples.observations,
                    samples.actions,
                    lambda: neighbours.next(batch_inds),
                    lambda: neighbours.previous(batch_inds),
                )
            )
            return samples

        stack.enter_context(_attribute(buffer, "_get_samples", _get_samples))

    def _watch_replay(self, stack: ExitStack) -> None:
        buffer = self.model.replay_buffer
        if isinstance(buffer, HerReplayBuffer):
            stock = buffer.sample

            def sample(*args: Any, **kwargs: Any) -> Any:
                samples = stock(*args, **kwargs)
                everywhere = torch.ones(len(samples.actions), device=samples.actions.device)
                pairs = Neighbour(samples.next_observations, everywhere)
                self._arrived(Sample(samples.observations, samples.actions, lambda: pairs))
                return samples

            stack.enter_context(_attribute(buffer, "sample", sample))
            return

        def seen(rows: ReplayNeighbours, samples: Any) -> None:
            self._arrived(Sample(samples.observations, samples.actions, rows.next, rows.previous))

        stack.enter_context(_attribute(buffer, "_get_samples", watched_get_samples(buffer, seen)))

    def _arrived(self, sample: Sample) -> None:
        self.runtime.step_memories()
        self.sample = sample
        self.runtime.waiting += 1

    # -- carriers --

    def _carry(self, observations: Any, carrier: Tensor, now: Any) -> Tensor:
        if self.sample is None or not same(observations, self.sample.observations):
            raise RuntimeError(
                f"{type(self.model).__name__}.train() evaluates other observations than it has sampled, so no "
                "successive ones are known. Please report this with your Stable-Baselines3 version."
            )
        self.runtime.waiting = 0
        loss = self.runtime.loss(self.sample, critic=False, now=now)
        if on_policy(self.model):  # one loss, one optimizer: the critic's share rides along
            of_critic = self.runtime.loss(self.sample, critic=True, now=now)
            if of_critic is not None:
                loss = of_critic if loss is None else loss + of_critic
        return carrier if loss is None else ride(carrier, loss)

    def _known_mean(self, networks: Any, observations: Any, n: int) -> Callable[[], Tensor]:
        mean = networks.now()
        if mean is not None and len(mean) == n:
            return lambda: mean
        return lambda: networks.mean(observations)

    def _evaluate_actions(self, stock: Any, observations: Any, actions: Tensor) -> Any:
        values, log_prob, entropy = stock(observations, actions)
        if not torch.is_grad_enabled():
            return values, log_prob, entropy
        now = self._known_mean(self.runtime.networks, observations, len(log_prob))
        return values, self._carry(observations, log_prob, now), entropy

    def _action_log_prob(self, stock: Any, observations: Any) -> Any:
        actions, log_prob = stock(observations)
        if not torch.is_grad_enabled():
            return actions, log_prob
        now = self._known_mean(self.runtime.networks, observations, len(log_prob))
        return actions, self._carry(observations, log_prob, now)

    def _q1_forward(self, stock: Any, observations: Any, actions: Tensor) -> Any:
        if not torch.is_grad_enabled():
            return stock(observations, actions)
        return stock(observations, self._carry(observations, actions, lambda: actions))

    def _after_critic(self, critic: Any, args: Any, output: Any) -> Any:
        """The critic's own update: the actions come from the buffer there, from the actor in the actor's update."""
        observations, actions = args
        if not torch.is_grad_enabled() or actions.requires_grad or self.sample is None:
            return None
        if not same(observations, self.sample.observations):
            return None
        loss = self.runtime.loss(self.sample, critic=True)
        if loss is None:
            return None
        if isinstance(output, Tensor):
            return ride(output, loss)
        return (ride(output[0], loss), *output[1:])

    def _check_carried(self) -> None:
        """A changed ``train()`` must not go on without the losses in silence."""
        delay = int(getattr(self.model, "policy_delay", 1))
        if self.runtime.active and self.runtime.waiting > 10 * delay:
            raise RuntimeError(
                f"{type(self.model).__name__}.train() has sampled {self.runtime.waiting} minibatches without "
                "evaluating the actor where a loss could ride, so nothing was regularised. Please report this with "
                "your Stable-Baselines3 version."
            )
