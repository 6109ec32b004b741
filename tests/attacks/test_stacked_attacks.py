"""Attacks on models behind SB3's VecFrameStack: only the newest frame moves, what was shown stays in the stack."""

from __future__ import annotations

import copy
import itertools
from fractions import Fraction

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest
import torch
from attack_models import STACKED, make_sac, make_stacked
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize, unwrap_vec_wrapper

from lipsrl.attacks import (
    CriticAttack,
    MADAttack,
    MinimumOverAttacks,
    RandomAttack,
    RobustSarsaAttack,
    _sarsa,
)
from lipsrl.cli import main
from lipsrl.disturbances import Compose, GaussianNoise
from lipsrl.disturbances._seeding import seed_sequence
from lipsrl.evaluation import Evaluation, evaluate, rollout_trace
from lipsrl.wrappers import VecObservationDisturbance

FRAMES, DIM = 3, 3
EACH = pytest.mark.parametrize("kind", STACKED)
UNITS = pytest.mark.parametrize("units", ["normalized", "raw"])


def short():
    return gym.make("Pendulum-v1", max_episode_steps=7)


def statistics_of(model):
    """(mean, gain, clip) of the newest frame, from SB3's own objects."""
    found = unwrap_vec_wrapper(model.get_env(), VecNormalize)
    if found is None:
        return np.zeros(DIM), np.ones(DIM), np.inf
    return found.obs_rms.mean[-DIM:], 1 / np.sqrt(found.obs_rms.var[-DIM:] + found.epsilon), found.clip_obs


def attacked_vec_env(model, kind, attack, n=1):
    """SB3's own wrappers with the attack below them, and the wrapper that attacks."""
    inner = VecObservationDisturbance(DummyVecEnv([short] * n), attack, seed=0)

    def normalized(venv):
        wrapped = VecNormalize(venv, training=False, norm_reward=False)
        own = unwrap_vec_wrapper(model.get_env(), VecNormalize)
        wrapped.obs_rms, wrapped.clip_obs = own.obs_rms, own.clip_obs
        return wrapped

    venv = normalized(inner) if kind == "inside" else inner
    venv = VecFrameStack(venv, FRAMES)
    return (normalized(venv) if kind == "outside" else venv), inner


def shown_and_clean(model, kind, attack, steps, n=1):
    """Per step: what SB3 hands to the policy (n, 9), the clean raw observation (n, 3), and which episodes begin."""
    venv, inner = attacked_vec_env(model, kind, attack, n)
    venv.seed(0)
    seen = venv.reset()
    clean = np.array([info["clean_observation"] for info in inner.reset_infos])
    rows = [(seen.copy(), clean, np.ones(n, dtype=bool))]
    for _ in range(steps - 1):
        seen, _, dones, infos = venv.step(model.predict(seen, deterministic=True)[0])
        rows.append((seen.copy(), np.array([info["clean_observation"] for info in infos]), dones))
    return rows


class OneStep:
    """MADAttack of one step in l-inf, written down again from its description, for one stream."""

    def __init__(self, model, epsilon, units):
        self.rng = np.random.default_rng(seed_sequence(0))
        self.epsilon, self.raw = epsilon, units == "raw"
        self.mean, self.gain, self.clip = statistics_of(model)
        self.policy = copy.deepcopy(model.policy).double()

    def skip(self):
        self.rng.standard_normal((2, DIM + 2))

    def values(self, older, newest):
        seen = torch.cat([torch.as_tensor(older), newest], dim=1)
        clean = torch.cat(
            [torch.as_tensor(older), torch.as_tensor(self.centre).clamp(-self.clip, self.clip)], dim=1
        )

        def mean(x):
            return self.policy.action_net(self.policy.mlp_extractor.policy_net(x))

        return (((mean(seen) - mean(clean)) / self.policy.log_std.exp()) ** 2).sum()

    def __call__(self, older, clean):
        """What the policy is to receive as its newest frame (1, 3)."""
        draws = self.rng.standard_normal((2, DIM + 2))[:, :DIM]
        self.centre = (clean - self.mean) * self.gain
        if not self.raw:
            self.centre = np.clip(self.centre, -self.clip, self.clip)
        slope = self.gain if self.raw else np.ones(DIM)

        def received(move):
            return (torch.as_tensor(self.centre) + torch.as_tensor(slope) * move).clamp(-self.clip, self.clip)

        def inside(move):
            move = np.clip(move, -self.epsilon, self.epsilon)
            return move if self.raw else np.clip(move, -self.clip - self.centre, self.clip - self.centre)

        start = torch.tensor(inside(self.epsilon * np.sign(draws[:1])), requires_grad=True)
        first = self.values(older, received(start))
        first.backward()
        gradient = start.grad.numpy()
        rms = np.sqrt((gradient**2).mean())
        climb = (gradient / rms if rms > 0 else gradient) + 0.1 / 2 * draws[1:]
        with torch.no_grad():
            end = torch.as_tensor(inside(start.numpy() + self.epsilon * np.sign(climb)))
            best = end if self.values(older, received(end)) > first else start
            return received(best).numpy()


class TestAgainstSB3:
    @EACH
    @UNITS
    def test_what_the_policy_receives_is_the_attack_written_down_again(self, models, kind, units):
        model = models[f"ppo-stack-{kind}"]
        epsilon = 0.2 if units == "normalized" else 0.1
        reference = OneStep(model, epsilon, units)
        rows = shown_and_clean(
            model, kind, MADAttack(model, epsilon, units=units, steps=1, reference="shown"), 30
        )
        moved = []
        for step, (seen, clean, begins) in enumerate(rows):
            if step and begins[0]:
                reference.skip()  # the last observation of the old episode, which is attacked as well
            expected = reference(seen[:, :-DIM].astype(np.float64), clean.astype(np.float64))
            np.testing.assert_allclose(seen[:, -DIM:], expected, rtol=0, atol=2e-5)
            moved.append(np.abs(expected - np.clip(reference.centre, -reference.clip, reference.clip)).max())
        assert np.mean(moved) > epsilon / 4

    def test_mad_moves_away_from_the_action_on_the_clean_window(self, models, observations):
        """Of what was never displaced: zeros, then the true frames; and again from the next reset on."""
        references = []

        class Watched(MADAttack):
            def objective(self, clean):
                references.append(clean.numpy().copy())
                return super().objective(clean)

        model, rows = models["ppo-stack-plain"], observations[:8].astype(np.float64)
        padded = np.concatenate([np.zeros((2, DIM)), rows])
        for reference in ("clean", "shown"):
            batch = Watched(model, 0.3, reference=reference).batch(1)
            for _ in range(2):
                references.clear()
                batch.reset(0, seed=0)
                shown = np.concatenate([np.zeros((2, DIM)), *(batch(row[None]) for row in rows)])
                for step, seen in enumerate(references):
                    before = (padded if reference == "clean" else shown)[step : step + 2]
                    np.testing.assert_array_equal(seen[0], np.concatenate([*before, rows[step]]))
        with pytest.raises(ValueError, match=r"reference='cleen' is not known\. Did you mean 'clean'"):
            MADAttack(None, 0.1, reference="cleen")

    @EACH
    @pytest.mark.parametrize("attack_class", [RandomAttack, MADAttack, CriticAttack])
    def test_what_the_attack_believes_to_be_shown_is_what_sb3_shows(self, models, kind, attack_class):
        """In several environments whose episodes end together, but begin with zeros again."""
        model, believed = models[f"ppo-stack-{kind}"], []

        class Watched(attack_class):
            def displacements(self, observations, epsilon, noise, past, **more):
                believed.append(past)
                return super().displacements(observations, epsilon, noise, past, **more)

        rows = shown_and_clean(model, kind, Watched(model, 0.3), 20, n=2)
        steps = [past for past in believed if len(past) == 2]
        assert len(steps) == len(rows)
        assert len(believed) > len(steps)  # terminal observations, one by one
        for (seen, _, _), past in zip(rows, steps, strict=True):
            np.testing.assert_allclose(past, seen[:, :-DIM], rtol=0, atol=1e-5)

    @EACH
    @UNITS
    def test_only_the_newest_frame_is_moved_and_inside_its_budget(self, models, kind, units):
        model, epsilon = models[f"ppo-stack-{kind}"], 0.25
        mean, gain, clip = statistics_of(model)
        rows = shown_and_clean(model, kind, MADAttack(model, epsilon, units=units), 25, n=2)
        unit = gain if units == "raw" else np.ones(DIM)
        for seen, clean, _ in rows:
            moved = np.abs(seen[:, -DIM:] - np.clip((clean - mean) * gain, -clip, clip)) / unit
            assert moved.max() <= epsilon + 1e-5
            assert moved.max() > 0.1 * epsilon
        if kind != "outside":  # where frames have statistics of their own they change as they grow older
            for (before, _, _), (seen, _, begins) in itertools.pairwise(rows):
                np.testing.assert_array_equal(seen[~begins, :-DIM], before[~begins, DIM:])


@pytest.mark.parametrize("name", ["random", "mad", "critic", "robust-sarsa"])
def test_a_stack_of_one_is_no_stack(models, observations, name):
    model = models["ppo-normalized"]
    make = {
        "random": RandomAttack,
        "mad": MADAttack,
        "critic": CriticAttack,
        "robust-sarsa": lambda *args, **kw: RobustSarsaAttack(*args, **kw, rollout_steps=60, updates=5),
    }[name]
    single, stacked = make(model, 0.2), make(model, 0.2, frame_stack=1)
    assert single == stacked
    batches = [attack.batch(4) for attack in (single, stacked)]
    for batch in batches:
        for index in range(4):
            batch.reset(index, seed=index)
    for step in range(10):
        rows = observations[4 * step : 4 * step + 4]
        np.testing.assert_array_equal(*(batch(rows) for batch in batches))


@st.composite
def episodes(draw):
    """observations (steps, streams, dim), epsilon, norm, attack, seed."""
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    shape = (draw(st.integers(1, 5)), draw(st.integers(1, 3)), DIM)
    observations = draw(hnp.arrays(dtype, shape, elements=st.floats(-(2.0**20), 2.0**20, width=32)))
    epsilon = draw(st.floats(0, 1e3) | st.floats(1e-9, 1e-3))
    norm, attack = (
        draw(st.sampled_from(["linf", "l2"])),
        draw(st.sampled_from([RandomAttack, MADAttack, CriticAttack])),
    )
    return observations, epsilon, norm, attack, draw(st.integers(0, 2**32))


def exact(array):
    return np.vectorize(Fraction, otypes=[object])(np.asarray(array, dtype=np.float64))


def largest(moved, norm):
    """Exact: the norm for linf, its square for l2."""
    return max(max(map(abs, row)) if norm == "linf" else sum(x * x for x in row) for row in moved)


def run(attack, observations, seed=0):
    """(steps, streams, dim) attacked."""
    batch = attack.batch(observations.shape[1])
    for index in range(observations.shape[1]):
        batch.reset(index, seed=seed + index)
    return np.array([batch(step) for step in observations])


@settings(deadline=None, max_examples=60)
@given(episodes(), st.sampled_from(STACKED))
def test_raw_budgets_hold_at_every_step(models, case, kind):
    observations, epsilon, norm, attack_class, seed = case
    attack = attack_class(models[f"ppo-stack-{kind}"], epsilon, norm, units="raw")
    result = run(attack, observations, seed)
    assert result.dtype == observations.dtype
    budget = Fraction(epsilon) * (1 + Fraction(2) ** -52)
    for shown, clean in zip(result, observations, strict=True):
        assert largest(exact(shown) - exact(clean), norm) <= (budget if norm == "linf" else budget**2)


@settings(deadline=None, max_examples=60)
@given(episodes(), st.sampled_from(STACKED))
def test_normalized_budgets_hold_at_every_step(models, case, kind):
    observations, epsilon, norm, attack_class, seed = case
    model = models[f"ppo-stack-{kind}"]
    mean, gain, clip = statistics_of(model)
    result = run(attack_class(model, epsilon, norm), observations, seed)

    def seen(raw):
        z = (exact(raw) - exact(mean)) * exact(gain)
        return z if np.isinf(clip) else np.clip(z, Fraction(-clip), Fraction(clip))

    for shown, clean in zip(result, observations, strict=True):
        size = float(largest(seen(shown) - seen(clean), norm))
        size = size if norm == "linf" else size**0.5
        # without a clip what the policy receives is as large as the observation, and so is its rounding
        level = clip if np.isfinite(clip) else float(np.abs(clean).max())
        assert size <= epsilon + 1e-12 * epsilon + 1e-15 * float(np.abs(mean) @ gain + level)


def actions_under(model, kind, attack, steps=21, n=4):
    """(steps·n,) how far the newest frame's attack moves the action, the earlier frames being as they were shown."""
    mean, gain, clip = statistics_of(model)
    distances = []
    for seen, clean, _ in shown_and_clean(model, kind, attack, steps, n):
        calm = seen.copy()
        calm[:, -DIM:] = np.clip((clean - mean) * gain, -clip, clip)
        actions = [model.predict(rows, deterministic=True)[0].astype(np.float64) for rows in (seen, calm)]
        distances.append(np.linalg.norm(actions[0] - actions[1], axis=1))
    return np.concatenate(distances)


@EACH
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_gradients_move_the_action_farther_than_chance(models, kind, norm):
    model = models[f"ppo-stack-{kind}"]
    # the distance is from what the policy does where only the newest frame is calm
    attacks = (MADAttack(model, 0.1, norm, reference="shown"), RandomAttack(model, 0.1, norm))
    own, chance = (actions_under(model, kind, attack).mean() for attack in attacks)
    assert own > 1.5 * chance > 0


def test_what_is_not_finite_is_left_alone_while_the_policy_sees_it(models, observations):
    attack = MADAttack(models["ppo-stack-plain"], 0.2)
    stream = observations[:12].reshape(6, 2, DIM).astype(np.float64).copy()
    stream[2, 0, 1] = np.nan
    result = run(attack, stream)
    moved = (result != stream).any(axis=2)
    assert moved[:, 0].tolist() == [True, True, True, False, False, True]  # nan is unequal to itself
    np.testing.assert_array_equal(result[2, 0], stream[2, 0])
    assert moved[:, 1].all()


@EACH
@pytest.mark.parametrize("attack_class", [MADAttack, CriticAttack])
def test_a_batch_is_the_loop_where_episodes_end_apart(models, kind, attack_class, observations):
    attack = attack_class(models[f"ppo-stack-{kind}"], 0.2, steps=3)
    batch, singles = attack.batch(3), [attack.scaled(1.0) for _ in range(3)]
    rng = np.random.default_rng(0)
    for index in range(3):
        batch.reset(index, seed=index)
        singles[index].reset(index)
    for step in range(30):
        rows = observations[rng.integers(64, size=3)].astype(np.float64)
        if step % 4 == 3:
            batch.reset(step % 3, seed=step)
            singles[step % 3].reset(step)
        chosen = rng.permutation(3)[: 1 + step % 3]
        alone = np.array([singles[i](rows[i]) for i in chosen])
        np.testing.assert_allclose(batch(rows[chosen], indices=chosen), alone, rtol=0, atol=1e-9)


class TestEvaluate:
    @EACH
    def test_it_aims_at_a_model_of_a_zip(self, models, kind, tmp_path):
        """With frame_stack= and vec_normalize= as with the environment attached."""
        model = models[f"ppo-stack-{kind}"]
        model.save(tmp_path / "model.zip")
        statistics = unwrap_vec_wrapper(model.get_env(), VecNormalize)
        zipped = PPO.load(tmp_path / "model.zip", device="cpu")
        options = {"disturbances": [MADAttack(None, 1.0, steps=2), RandomAttack(None, 1.0)], "n_episodes": 3}
        options |= {"strengths": (0, 0.2)}
        attached = evaluate({"PPO": model}, short, **options)
        given = evaluate({"PPO": zipped}, short, frame_stack=FRAMES, vec_normalize=statistics, **options)
        pd.testing.assert_frame_equal(attached.frame, given.frame, check_exact=True)
        by_hand = MADAttack(zipped, 1.0, vec_normalize=statistics, frame_stack=FRAMES, steps=2)
        assert by_hand.dimension == DIM
        assert by_hand == MADAttack(model, 1.0, steps=2)
        assert by_hand.to_dict()["model"]["frame_stack"] == FRAMES

    @EACH
    def test_what_was_shown_is_inside_the_budget_and_what_sb3_would_have_acted_on(self, models, kind):
        model = models[f"ppo-stack-{kind}"]
        mean, gain, clip = statistics_of(model)
        trace = rollout_trace(model, short, disturbance=MADAttack(None, 0.2), seed=1)
        shown, clean = (
            np.clip((trace[name] - mean) * gain, -clip, clip)
            for name in ("disturbed_observations", "observations")
        )
        distances = np.abs(shown - clean).max(axis=1)
        assert distances.max() <= 0.2 + 1e-6
        assert np.median(distances) > 0.1

    def test_the_minimum_of_several(self, models):
        attacks = MinimumOverAttacks([RandomAttack(None, 1.0), MADAttack(None, 1.0), CriticAttack(None, 1.0)])
        model = models["ppo-stack-inside"]
        frame = evaluate(model, "Pendulum-v1", disturbances=attacks, strengths=0.3, n_episodes=4).frame
        assert attacks.worst(frame)["return"].item() == frame.groupby("disturbance")["return"].mean().min()
        assert frame["return"].nunique() == len(frame)

    def test_in_a_chain(self, models):
        model = models["ppo-stack-outside"]
        chain = Compose([GaussianNoise(0.01), MADAttack(None, 0.2)])
        trace = rollout_trace(model, short, disturbance=chain)
        assert np.abs(trace["disturbed_observations"] - trace["observations"]).max() > 0.05

    def test_what_remembers_by_itself_is_refused(self):
        model = RecurrentPPO("MlpLstmPolicy", "Pendulum-v1", device="cpu", n_steps=8, batch_size=8)
        with pytest.raises(ValueError, match=r"cannot attack .*RecurrentPPO.*recurrent policy"):
            evaluate(model, short, disturbances=MADAttack(None, 0.1), strengths=1.0)

    def test_an_attack_on_another_stack_is_refused(self, models):
        model = models["ppo-stack-plain"]
        wide = MADAttack(model, 0.1).against(model)
        assert wide.target.view.frames == FRAMES
        detached = copy.deepcopy(wide)
        zipped = PPO("MlpPolicy", gym.make("Pendulum-v1"), device="cpu")  # one frame
        assert detached.against(zipped) is detached  # another model: a transfer attack

    def test_the_command(self, models, tmp_path, capsys):
        model = models["ppo-stack-inside"]
        model.save(tmp_path / "model.zip")
        unwrap_vec_wrapper(model.get_env(), VecNormalize).save(str(tmp_path / "statistics.pkl"))
        arguments = [str(tmp_path / "model.zip"), "--vec-normalize", str(tmp_path / "statistics.pkl")]
        arguments += ["--env", "Pendulum-v1", "--attack", "mad", "--epsilon", "0.1", "--episodes", "2"]
        output = ["--output", str(tmp_path / "attacks.parquet")]
        assert main(["attack", *arguments, "--frame-stack", str(FRAMES), *output]) == 0
        assert "mad" in capsys.readouterr().out
        agents = Evaluation.load(tmp_path / "attacks.parquet").metadata["agents"]
        assert agents[0]["frame_stack"] == FRAMES


class TestErrors:
    def test_the_number_of_frames_is_named_where_it_was_left_out(self, models):
        attack = RandomAttack(make_detached(models["ppo-stack-plain"]), 0.1)
        with pytest.raises(ValueError, match=r"have length 9, .* length 3\. .* pass frame_stack=3"):
            attack(np.zeros(3, np.float32))

    def test_frames_that_do_not_fit(self, models):
        zipped = make_detached(models["ppo-stack-plain"])
        with pytest.raises(ValueError, match=r"frame_stack=4 frames of one length do not make the 9 values"):
            MADAttack(zipped, 0.1, frame_stack=4)
        with pytest.raises(ValueError, match="frame_stack must be an integer > 0"):
            MADAttack(zipped, 0.1, frame_stack=0)
        with pytest.raises(
            ValueError, match="frame_stack=2, but the model was made for, or stands behind, 3"
        ):
            MADAttack(models["ppo-stack-plain"], 0.1, frame_stack=2)
        with pytest.raises(ValueError, match="frame_stack belongs to a model, but model is None"):
            MADAttack(None, 0.1, frame_stack=3)

    def test_statistics_of_single_frames_ask_for_their_number(self, models):
        statistics = unwrap_vec_wrapper(models["ppo-stack-inside"].get_env(), VecNormalize)
        zipped = make_detached(models["ppo-stack-inside"])
        with pytest.raises(ValueError, match="pass frame_stack=3"):
            MADAttack(zipped, 0.1, vec_normalize=statistics)

    def test_the_same_weights_behind_another_stack(self, models):
        model = models["ppo-stack-plain"]
        attack = MADAttack(make_detached(model), 0.1)
        with pytest.raises(ValueError, match="another observation normalisation or frame stack"):
            attack.against(model)


def make_detached(model):
    """The model without its environment, as from a zip."""
    detached = copy.copy(model)
    detached.env = None
    return detached


class TestRobustSarsa:
    @EACH
    def test_what_it_learns_from_is_what_sb3_shows(self, models, kind):
        """One environment: states follow each other as in SB3's stack, and begin with its zeros."""
        model = models[f"ppo-stack-{kind}"]
        attack = MADAttack(model, 0.1)
        view, actor = attack.target.view, attack._actor
        data = _sarsa.collect(actor, view, np.array([2.0]), [short()], 20, 0)
        statistics = unwrap_vec_wrapper(model.get_env(), VecNormalize)
        zeros = np.zeros((1, FRAMES * DIM))
        if kind == "outside":
            zeros = statistics.normalize_obs(zeros)
        begins = np.arange(20) % 7 == 0
        np.testing.assert_allclose(
            data.states.numpy()[begins, :-DIM], np.tile(zeros[:, :-DIM], (3, 1)), atol=1e-6
        )
        states, following = data.states.numpy()[1:], data.next_states.numpy()[:-1]
        np.testing.assert_allclose(states[~begins[1:]], following[~begins[1:]], atol=1e-6)
        if kind != "outside":
            np.testing.assert_array_equal(data.next_states[:, :-DIM], data.states[:, DIM:])

    @pytest.mark.parametrize("kind", ["inside", "outside"])
    def test_it_attacks(self, models, kind):
        model = models[f"ppo-stack-{kind}"]
        attack = RobustSarsaAttack(model, 0.1, env=short, rollout_steps=200, updates=20)
        rows = shown_and_clean(model, kind, attack, 8)
        mean, gain, clip = statistics_of(model)
        moved = [
            np.abs(seen[:, -DIM:] - np.clip((c - mean) * gain, -clip, clip)).max() for seen, c, _ in rows
        ]
        assert 0.05 < max(moved) <= 0.1 + 1e-5

    def test_another_tasks_environment(self, models):
        with pytest.raises(ValueError, match="the attacked model was trained on observations"):
            RobustSarsaAttack(models["ppo-stack-plain"], 0.1, env="CartPole-v1")

    def test_off_policy_models(self):
        model = make_sac(make_stacked("inside").get_env())
        for attack in (MADAttack(model, 0.1), CriticAttack(model, 0.1)):
            assert (attack(np.array([1.0, 0.0, 0.5], np.float32)) != [1.0, 0.0, 0.5]).any()
