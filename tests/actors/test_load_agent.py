"""Agents as SB3, sb3-contrib and rl-baselines3-zoo leave them on a disk."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.type_aliases import TrainFrequencyUnit
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize
from stable_baselines3.her import HerReplayBuffer

import lipsrl
from lipsrl import load_agent
from lipsrl._commands._source import in_environment, open_source
from lipsrl.actors import RefusedError
from lipsrl.actors._refused import refused_in
from lipsrl.actors._unpickle import loads
from lipsrl.actors.run_folder import RunFolder
from lipsrl.actors.training_settings import not_restored
from lipsrl.cli import main
from tests.policies.zoo import ALGORITHMS, build, sample

torch.set_num_threads(1)
SMALL = {"net_arch": [8, 8]}


def same_actions(model, other, observations):
    a, _ = model.predict(observations, deterministic=True)
    b, _ = other.predict(observations, deterministic=True)
    return np.array_equal(a, b)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder of checkpoints with their statistics, and what trained there: (folder, model, environment)."""
    folder = tmp_path_factory.mktemp("checkpoints")
    env = VecNormalize(make_vec_env("Pendulum-v1", 2, seed=0), norm_reward=False)
    model = PPO(
        "MlpPolicy",
        env,
        n_steps=100,
        batch_size=50,
        n_epochs=1,
        policy_kwargs=dict(SMALL),
        seed=0,
        device="cpu",
    )
    model.learn(400, callback=CheckpointCallback(100, str(folder), "agent", save_vecnormalize=True))
    return folder, model, env


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_every_algorithm_acts_as_it_was_saved(name, tmp_path):
    model = build(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.learn(32)
    model.save(tmp_path / "agent")
    agent = load_agent(tmp_path / "agent.zip")
    assert isinstance(model, type(agent.model))  # DDPG is saved as TD3 is
    assert same_actions(model, agent.model, sample(model.observation_space))
    assert agent.vec_normalize is None
    assert "no VecNormalize beside it" in agent.described


@pytest.mark.parametrize("observation", ["dict", "image", "discrete", "multibinary", "dict with image"])
def test_every_observation_acts_as_it_was_saved(observation, tmp_path):
    model = build("PPO", observation=observation)
    model.save(tmp_path / "agent")
    assert same_actions(model, load_agent(tmp_path / "agent").model, sample(model.observation_space))


class TestWhatActingDoesNotNeed:
    def test_schedules_and_optimizers(self, tmp_path):
        class Own(torch.optim.Adam):
            pass

        model = PPO(
            "MlpPolicy", "Pendulum-v1", learning_rate=lambda left: 1e-3 * left, clip_range=lambda left: 0.2 * left,
            policy_kwargs={"optimizer_class": Own, **SMALL}, device="cpu",
        )  # fmt: skip
        model.save(tmp_path / "agent")
        agent = load_agent(tmp_path / "agent.zip")
        assert same_actions(model, agent.model, sample(model.observation_space))

    def test_code_of_another_python(self, tmp_path):
        """``code() argument 13 must be str``: a schedule by value does not outlive its Python."""
        SAC(
            "MlpPolicy",
            "Pendulum-v1",
            learning_rate=lambda left: 1e-3,
            policy_kwargs=dict(SMALL),
            buffer_size=10,
        ).save(tmp_path / "agent")
        change(tmp_path / "agent.zip", lr_schedule=b"\x80\x05garbage", learning_rate=b"c")
        with pytest.raises(Exception, match=r"learning_rate|code|pickle|unpickl"):
            SAC.load(tmp_path / "agent.zip")
        load_agent(tmp_path / "agent.zip")

    def test_hindsight_replay(self, tmp_path):
        class Goal(gym.Env):
            observation_space = spaces.Dict(
                {key: spaces.Box(-1, 1, (2,)) for key in ("observation", "achieved_goal", "desired_goal")}
            )
            action_space = spaces.Box(-1, 1, (1,))

            def reset(self, *, seed=None, options=None):
                super().reset(seed=seed)
                return self.observation_space.sample(), {}

            def step(self, action):
                return self.observation_space.sample(), 0.0, False, False, {}

            def compute_reward(self, achieved, desired, info):
                return np.zeros(len(achieved))

        model = SAC(
            "MultiInputPolicy",
            Goal(),
            replay_buffer_class=HerReplayBuffer,
            policy_kwargs=dict(SMALL),
            buffer_size=100,
        )
        model.save(tmp_path / "agent")
        with pytest.raises(Exception, match="environment"):
            SAC.load(tmp_path / "agent.zip")
        agent = load_agent(tmp_path / "agent.zip")
        assert same_actions(model, agent.model, sample(model.observation_space))
        assert lipsrl.certify(agent.model).upper_bound > 0

    def test_no_memory_for_a_replay_buffer(self, tmp_path):
        DQN("MlpPolicy", "CartPole-v1", policy_kwargs=dict(SMALL)).save(tmp_path / "agent")
        assert load_agent(tmp_path / "agent.zip").model.replay_buffer.buffer_size == 1


class TestStatistics:
    def test_of_a_checkpoint(self, trained):
        folder, _, _ = trained
        for steps in (200, 400):
            agent = load_agent(folder / f"agent_{steps}_steps.zip")
            own = VecNormalize.load(
                str(folder / f"agent_vecnormalize_{steps}_steps.pkl"), make_vec_env("Pendulum-v1")
            )
            assert np.array_equal(agent.vec_normalize.obs_rms.mean, own.obs_rms.mean)
            assert f"agent_vecnormalize_{steps}_steps.pkl" in agent.described
            assert agent.vec_normalize.training is False

    def test_of_a_checkpoint_whose_own_is_missing(self, trained, tmp_path):
        folder, _, _ = trained
        shutil.copy(folder / "agent_400_steps.zip", tmp_path)
        shutil.copy(folder / "agent_vecnormalize_200_steps.pkl", tmp_path)
        with pytest.raises(ValueError, match=r"is not clear: agent_vecnormalize_200_steps\.pkl"):
            load_agent(tmp_path / "agent_400_steps.zip")
        assert load_agent(tmp_path / "agent_400_steps.zip", vec_normalize=None).stated
        given = load_agent(
            tmp_path / "agent_400_steps.zip", vec_normalize=tmp_path / "agent_vecnormalize_200_steps.pkl"
        )
        assert given.vec_normalize is not None

    def test_beside_the_best_model(self, tmp_path):
        env = VecNormalize(make_vec_env("Pendulum-v1", 1, seed=0), norm_reward=False)
        judge = VecNormalize(make_vec_env("Pendulum-v1", 1, seed=1), norm_reward=False, training=False)
        model = PPO(
            "MlpPolicy", env, n_steps=64, batch_size=64, n_epochs=1, policy_kwargs=dict(SMALL), device="cpu"
        )
        model.learn(64, callback=EvalCallback(judge, eval_freq=64, n_eval_episodes=1, verbose=0,
                                              best_model_save_path=str(tmp_path)))  # fmt: skip
        assert load_agent(tmp_path / "best_model.zip").vec_normalize is None
        env.save(str(tmp_path / "vecnormalize.pkl"))
        assert load_agent(tmp_path / "best_model").vec_normalize is not None
        assert load_agent(tmp_path).vec_normalize is not None  # the only zip of the folder

    def test_of_which_of_two_agents(self, trained, tmp_path):
        folder, _, env = trained
        for name in ("a.zip", "b.zip"):
            shutil.copy(folder / "agent_400_steps.zip", tmp_path / name)
        env.save(str(tmp_path / "vecnormalize.pkl"))
        with pytest.raises(ValueError, match=r"not clear: vecnormalize\.pkl.*--vec-normalize"):
            load_agent(tmp_path / "a.zip")
        with pytest.raises(ValueError, match=r"holds 2 zips \(a\.zip, b\.zip\)"):
            load_agent(tmp_path)
        env.save(str(tmp_path / "a.vecnormalize.pkl"))
        assert load_agent(tmp_path / "a.zip").statistics.name == "a.vecnormalize.pkl"
        # so those of no name are the other one's: `lipsrl distill` may be asked twice in one folder
        assert load_agent(tmp_path / "b.zip").statistics.name == "vecnormalize.pkl"

    def test_of_several_checkpoints(self, trained, tmp_path):
        """The last statistics of a training are not those of its checkpoints."""
        folder, _, env = trained
        first, second = tmp_path / "rl_model_1000_steps.zip", tmp_path / "rl_model_2000_steps.zip"
        shutil.copy(folder / "agent_200_steps.zip", first)
        env.save(str(tmp_path / "vecnormalize.pkl"))
        assert load_agent(first).statistics.name == "vecnormalize.pkl"  # all that the training has left
        for other in (second, tmp_path / "best_model.zip", tmp_path / "final.zip"):
            shutil.copy(folder / "agent_400_steps.zip", other)
            with pytest.raises(ValueError, match=r"1000_steps\.zip' is not clear: vecnormalize\.pkl"):
                load_agent(first)
        with pytest.raises(ValueError, match=r"2000_steps\.zip' is not clear"):
            load_agent(second)
        for name in ("best_model", "final"):
            assert load_agent(tmp_path / name).statistics.name == "vecnormalize.pkl"
        shutil.copy(
            folder / "agent_vecnormalize_400_steps.pkl", tmp_path / "rl_model_vecnormalize_2000_steps.pkl"
        )
        assert load_agent(second).statistics.name == "rl_model_vecnormalize_2000_steps.pkl"

    def test_of_another_task(self, trained, tmp_path):
        folder, _, _ = trained
        shutil.copy(folder / "agent_400_steps.zip", tmp_path / "a.zip")
        VecNormalize(make_vec_env("CartPole-v1")).save(str(tmp_path / "vecnormalize.pkl"))
        with pytest.raises(ValueError, match=r"vecnormalize\.pkl' does not fit .*another task"):
            load_agent(tmp_path / "a.zip")

    def test_of_a_dict(self, tmp_path):
        env = VecNormalize(make_vec_env(lambda: gym.wrappers.FlattenObservation(gym.make("Pendulum-v1"))))
        assert env.obs_rms is not None
        model = build("A2C", observation="dict", policy="MultiInputPolicy", lipschitz_bound=None)
        model.save(tmp_path / "a")
        env = VecNormalize(model.get_env(), norm_obs_keys=["a"])
        env.reset()
        env.save(str(tmp_path / "vecnormalize.pkl"))
        agent = load_agent(tmp_path / "a")
        rows = sample(model.observation_space)
        seen, own = agent.vec_normalize.normalize_obs(rows), env.normalize_obs(rows)
        assert all(np.array_equal(seen[key], own[key]) for key in rows)

    def test_what_is_no_statistics(self, trained, tmp_path):
        folder, _, _ = trained
        shutil.copy(folder / "agent_400_steps.zip", tmp_path / "a.zip")
        for content, message in (
            (b"hello", "holds no VecNormalize: it is damaged or another kind of file"),
            (pickle.dumps([1, 2]), "holds a list, expected what VecNormalize.save wrote"),
        ):
            (tmp_path / "s.pkl").write_bytes(content)
            with pytest.raises(ValueError, match=message):
                load_agent(tmp_path / "a.zip", vec_normalize=tmp_path / "s.pkl")


class TestSpaces:
    def test_of_the_old_gym(self, tmp_path):
        model = PPO("MlpPolicy", "Pendulum-v1", policy_kwargs=dict(SMALL), device="cpu")
        model.save(tmp_path / "a")
        old = b"cgym.spaces.box\nBox\n."
        change(tmp_path / "a.zip", observation_space=old, action_space=old)
        with pytest.raises(ValueError, match=r"old gym.*env="):
            load_agent(tmp_path / "a.zip")
        agent = load_agent(tmp_path / "a.zip", env="Pendulum-v1")
        assert agent.env_id == "Pendulum-v1"
        assert same_actions(model, agent.model, sample(model.observation_space))
        assert main(["certify", str(tmp_path / "a.zip"), "--env", "Pendulum-v1"]) == 0


class Mine(torch.nn.ReLU):
    """An activation of the user's own."""


def test_classes_of_ones_own_need_trust(tmp_path):
    model = A2C("MlpPolicy", "Pendulum-v1", policy_kwargs={"activation_fn": Mine, **SMALL}, device="cpu")
    model.save(tmp_path / "a")
    with pytest.raises(RefusedError, match=r"policy_kwargs of .*Mine.*trust=True"):
        load_agent(tmp_path / "a.zip")
    assert same_actions(
        model, load_agent(tmp_path / "a.zip", trust=True).model, sample(model.observation_space)
    )


def test_web_addresses_are_refused():
    with pytest.raises(ValueError, match="is an address"):
        load_agent("https://example.org/agent.zip")


class TestPack:
    def test_a_folder_for_every_command(self, trained, tmp_path, capsys):
        folder, _, _ = trained
        zipped, run = str(folder / "agent_400_steps.zip"), tmp_path / "runs" / "one"
        assert (
            main(
                [
                    "pack",
                    zipped,
                    "--env",
                    "Pendulum-v1",
                    "--name",
                    "mine",
                    "--seed",
                    "3",
                    "--output",
                    str(run),
                ]
            )
            == 0
        )
        assert sorted(path.name for path in run.iterdir()) == ["config.json", "model.zip", "vecnormalize.pkl"]
        assert [path.name for path in run.parent.iterdir()] == ["one"]
        agent = load_agent(run)
        assert (agent.name, agent.seed, agent.env_id) == ("mine", 3, "Pendulum-v1")
        assert agent.vec_normalize is not None
        assert "run folder" in agent.described
        assert RunFolder.open(run).load()[1] is not None
        out = tmp_path / "e.parquet"
        command = ["evaluate", str(run.parent), "--episodes", "1", "--strengths", "0", "--output", str(out)]
        assert main(command) == 0  # a folder of runs
        assert main(["pack", zipped, "--env", "Pendulum-v1", "--output", str(run)]) == 2
        assert "exists already" in capsys.readouterr().err

    def test_errors_leave_nothing(self, trained, tmp_path, capsys):
        folder, _, _ = trained
        run = tmp_path / "one"
        for arguments, words in (
            ([], "Pass --env ID"),
            (["--env", "Nowhere-v0"], "is not registered"),
            (
                ["--env", "Pendulum-v1", "--env-kwargs", "render_mode:rgb_array"],
                "must be numbers, True or False",
            ),
            (["--env", "Pendulum-v1", "--env-kwargs", "weight:2"], "cannot be made"),
        ):
            assert main(["pack", str(folder / "agent_400_steps.zip"), "--output", str(run), *arguments]) == 2
            assert words in capsys.readouterr().err
        assert not list(tmp_path.iterdir())


class TestCommands:
    def test_each_zip_with_its_own_statistics(self, trained, tmp_path, capsys):
        _, model, env = trained
        model.save(tmp_path / "a")
        model.save(tmp_path / "b")
        env.save(str(tmp_path / "s.pkl"))
        out = tmp_path / "e.parquet"
        paths = [f"{tmp_path / 'a.zip'}:{tmp_path / 's.pkl'}", f"{tmp_path / 'b.zip'}:none"]
        command = ["evaluate", *paths, "--env", "Pendulum-v1", "--episodes", "2", "--strengths", "0"]
        assert main([*command, "--output", str(out)]) == 0
        frame = lipsrl.Evaluation.load(out).frame
        expected = lipsrl.evaluate(
            {"a": model, "b": PPO.load(tmp_path / "b", device="cpu")}, "Pendulum-v1", n_episodes=2,
            vec_normalize={"a": env, "b": None},
        ).frame  # fmt: skip
        for name in ("a", "b"):
            found, own = (f.loc[f["agent"] == name, "return"].to_numpy() for f in (frame, expected))
            assert np.array_equal(found, own)
        assert main([*command, "--vec-normalize", "x.pkl"]) == 2
        assert "Write MODEL.zip:FILE" in capsys.readouterr().err

    def test_returns_far_below_those_of_training_are_doubted(self, tmp_path, capsys):
        model = PPO(
            "MlpPolicy",
            "CartPole-v1",
            n_steps=64,
            batch_size=64,
            policy_kwargs=dict(SMALL),
            seed=0,
            device="cpu",
        )
        model.learn(512)
        for episode in model.ep_info_buffer:
            episode["r"] += 300.0
        model.save(tmp_path / "a")
        command = [
            "evaluate",
            str(tmp_path / "a.zip"),
            "--env",
            "CartPole-v1",
            "--episodes",
            "2",
            "--strengths",
            "0",
        ]
        assert main(command) == 0
        said = capsys.readouterr().err
        assert "training episodes earned 3" in said
        assert "trained with VecNormalize" in said

    @pytest.mark.parametrize("command", ["certify", "export", "evaluate", "attack", "distill"])
    def test_a_checkpoint_through_every_command(self, trained, tmp_path, command):
        folder, _, _ = trained
        more = {
            "certify": [],
            "export": ["--output", tmp_path / "p.safetensors"],
            "evaluate": ["--env", "Pendulum-v1", "--episodes", 1, "--strengths", 0],
            "attack": ["--env", "Pendulum-v1", "--episodes", 1, "--attack", "mad", "--epsilon", 0.1, "--steps", 1],
            "distill": ["--env", "Pendulum-v1", "--lipschitz-bound", 5, "--rounds", 1, "--steps", 10, "--episodes", 1,
                        "--output", tmp_path / "s.zip"],
        }[command]  # fmt: skip
        assert main([command, str(folder / "agent_400_steps.zip"), *map(str, more)]) == 0


def test_a_stack_that_the_zoo_wrote_down(tmp_path):
    """Layout of rl_zoo3's ``logs/ALGO/ENV_1``, with the YAML that it writes."""
    env = VecFrameStack(VecNormalize(make_vec_env("Pendulum-v1", 1, seed=0), norm_reward=False), 2)
    model = PPO("MlpPolicy", env, policy_kwargs=dict(SMALL), device="cpu")
    settings = tmp_path / "Pendulum-v1"
    settings.mkdir()
    model.save(tmp_path / "Pendulum-v1.zip")
    pair = "!!python/object/apply:collections.OrderedDict\n- - - {}\n    - {}\n  - - {}\n    - {}\n"
    (settings / "config.yml").write_text(pair.format("frame_stack", 2, "normalize", "true"))
    (settings / "args.yml").write_text(pair.format("algo", "ppo", "env", "Pendulum-v1"))
    with pytest.raises(FileNotFoundError, match=r"config\.yml says so.*vecnormalize\.pkl is missing"):
        load_agent(tmp_path)
    env.venv.save(str(settings / "vecnormalize.pkl"))
    agent = load_agent(tmp_path)
    assert (agent.frame_stack, agent.env_id, agent.name) == (2, "Pendulum-v1", "ppo-Pendulum-v1")
    assert main(["certify", str(tmp_path)]) == 0
    code = "!!python/object/apply:os.system ['touch owned']"
    (settings / "config.yml").write_text(code)
    load_agent(tmp_path)
    assert not (tmp_path / "owned").exists()


def test_what_rl_zoo_leaves(tmp_path):
    pytest.importorskip("rl_zoo3", reason="pip install rl_zoo3")
    command = [sys.executable, "-m", "rl_zoo3.train", "--algo", "ppo", "--env", "Pendulum-v1", "-f", "logs",
               "-n", "600", "--save-freq", "256", "--eval-freq", "256", "--eval-episodes", "1", "--hyperparams",
               "n_envs:1",
               "n_steps:256", "normalize:True"]  # fmt: skip
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    folder = tmp_path / "logs" / "ppo" / "Pendulum-v1_1"
    for path in (folder, folder / "best_model.zip", next(folder.glob("rl_model_*_steps.zip"))):
        agent = load_agent(path)
        assert agent.env_id == "Pendulum-v1"
        assert agent.statistics == folder / "Pendulum-v1" / "vecnormalize.pkl"
        assert "rl-baselines3-zoo" in agent.described
    assert main(["certify", str(folder)]) == 0


def change(path, **pickles):
    """Put other pickles in the place of entries of a zip's data."""
    import base64
    import zipfile

    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    data = json.loads(parts["data"])
    for key, content in pickles.items():
        data[key] = {":type:": "x", ":serialized:": base64.b64encode(content).decode()}
    parts["data"] = json.dumps(data).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def test_a_training_goes_on_with_its_settings_where_they_are_plain(tmp_path):
    """A replay buffer of one transition would learn nothing, in silence."""
    sac = SAC("MlpPolicy", "Pendulum-v1", train_freq=(3, "episode"), policy_kwargs=dict(SMALL), device="cpu")
    sac.save(tmp_path / "sac")
    found = load_agent(tmp_path / "sac.zip").model
    assert found.buffer_size == sac.buffer_size == 1_000_000
    assert found.replay_buffer.buffer_size == 1, "no memory for transitions that do not come"
    assert found.train_freq == sac.train_freq
    ppo = PPO(
        "MlpPolicy",
        "Pendulum-v1",
        clip_range=0.05,
        clip_range_vf=0.3,
        policy_kwargs=dict(SMALL),
        device="cpu",
    )
    ppo.save(tmp_path / "ppo")
    found = load_agent(tmp_path / "ppo.zip").model
    assert (found.clip_range(1.0), found.clip_range_vf(1.0)) == (0.05, 0.3)
    assert not_restored(tmp_path / "sac.zip") == not_restored(tmp_path / "ppo.zip") == []
    PPO(
        "MlpPolicy", "Pendulum-v1", learning_rate=lambda p: 1e-3 * p, policy_kwargs=dict(SMALL), device="cpu"
    ).save(tmp_path / "own")
    assert not_restored(tmp_path / "own.zip") == ["learning_rate"]


def test_members_of_enumerations_as_early_pythons_write_them():
    """By getattr, of which nothing else is let through."""

    def written(module, name, member):
        return f"cbuiltins\ngetattr\n(c{module}\n{name}\nS'{member}'\ntR.".encode()

    unit = ("stable_baselines3.common.type_aliases", "TrainFrequencyUnit")
    assert loads(written(*unit, "EPISODE")) is TrainFrequencyUnit.EPISODE
    for refused in (
        written(*unit, "__class__"),
        written("builtins", "dict", "fromkeys"),
        written("os", "path", "join"),
    ):
        assert "builtins.getattr" in refused_in(loads(refused))[0]


def test_what_a_killed_save_left_is_no_agent_and_no_statistics(trained, tmp_path):
    folder, _, env = trained
    shutil.copy(folder / "agent_400_steps.zip", tmp_path / "a.zip")
    shutil.copy(folder / "agent_400_steps.zip", tmp_path / ".b.4242.partial.zip")
    env.save(str(tmp_path / ".vecnormalize.4242.partial.pkl"))
    assert load_agent(tmp_path).file.name == "a.zip"
    assert load_agent(tmp_path / "a.zip").vec_normalize is None


def test_the_statistics_of_a_student_are_nobody_elses(trained, tmp_path):
    folder, _, env = trained
    for name in ("student.zip", "other.zip"):
        shutil.copy(folder / "agent_400_steps.zip", tmp_path / name)
    env.save(str(tmp_path / "student.vecnormalize.pkl"))
    assert load_agent(tmp_path / "other.zip").vec_normalize is None
    assert load_agent(tmp_path / "student.zip").vec_normalize is not None


def test_the_environment_s_own_switches_are_those_of_the_configuration(trained, tmp_path):
    shutil.copy(trained[0] / "agent_400_steps.zip", tmp_path / "model.zip")
    config = {"env_id": "Pendulum-v1", "env_kwargs": {"g": 3.0}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load_agent(tmp_path).env_kwargs == {"g": 3.0}
    (source,) = in_environment([open_source(tmp_path)], None)
    assert source.env().unwrapped.g == 3.0
    (source,) = in_environment([open_source(tmp_path)], "Pendulum-v1")  # the same one
    assert source.env().unwrapped.g == 3.0
    (source,) = in_environment([open_source(tmp_path)], "CartPole-v1")
    assert source.env == "CartPole-v1"
    (source,) = in_environment([open_source(tmp_path)], None, ["g:4.0"])
    assert source.env().unwrapped.g == 4.0
    plain = replace(open_source(tmp_path), env_kwargs={})
    with pytest.raises(ValueError, match="different arguments"):
        in_environment([open_source(tmp_path), plain], None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "must hold an object"),
        ("{", "config.json' cannot be read as JSON"),
        ('{"frame_stack": "3"}', "says frame_stack='3', expected a whole number"),
        ('{"frame_stack": 0}', "says frame_stack=0"),
        ('{"env_kwargs": {"xml_file": "x.xml"}}', "expected names with finite numbers"),
        ('{"env_kwargs": [1]}', "expected names with finite numbers"),
    ],
)
def test_a_damaged_config_is_said(trained, tmp_path, text, words):
    shutil.copy(trained[0] / "agent_400_steps.zip", tmp_path / "model.zip")
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=words):
        load_agent(tmp_path)
