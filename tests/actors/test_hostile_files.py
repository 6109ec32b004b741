"""Files made to do harm when they are opened: each is refused, or the part is passed over, and nothing in it runs.

An attack makes a marker file. That it would make one if it were unpickled is tested too.
"""

from __future__ import annotations

import base64
import contextlib
import copyreg
import io
import json
import pickle
import pickletools
import struct
import sys
import zipfile
from functools import partial

import cloudpickle
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize

from lipsrl import load_agent
from lipsrl.actors import RefusedError
from lipsrl.actors._refused import refused_in
from lipsrl.actors._unpickle import loads
from lipsrl.cli import main

torch.set_num_threads(1)
SMALL = {"net_arch": [8]}


# -- bytes ------------------------------------------------------------------------------------------------------------
def word(text):
    raw = text.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def named(module, name):
    return word(module) + word(name) + b"\x93"


def value(content):
    """Opcodes that put a plain value on the stack."""
    return pickletools.optimize(pickle.dumps(content, 3))[2:-1]


def called(function, *args):
    return function + b"(" + b"".join(args) + b"tR"


def attribute(opcodes, **attributes):
    """BUILD with a dict."""
    return opcodes + b"}(" + b"".join(word(k) + v for k, v in attributes.items()) + b"ub"


P4, P5 = b"\x80\x04", b"\x80\x05"
OPEN, EXEC = named("builtins", "open"), named("builtins", "exec")
SPACE = named("gymnasium.spaces.multi_binary", "MultiBinary") + b")\x81"
RELU = named("torch.nn.modules.activation", "ReLU")
PARTIAL = named("functools", "partial")
KINDS = ("numpy._core.multiarray", "numpy.core.multiarray")


def arguments(marker):
    return word(str(marker)), word("w")


def script(marker):
    return word(f"open({str(marker)!r}, 'w')")


def framed(opcodes):
    return b"\x95" + struct.pack("<Q", len(opcodes)) + opcodes


#: name → bytes of a pickle that makes the marker when pickle.loads reads it.
RUNS = {
    "REDUCE": lambda m: P4 + called(OPEN, *arguments(m)) + b".",
    "GLOBAL, protocol 0": lambda m: f"cbuiltins\nopen\n(V{m}\nVw\ntR.".encode(),
    "GLOBAL of Python 2": lambda m: f"c__builtin__\nopen\n(V{m}\nVw\ntR.".encode(),
    "INST": lambda m: f"(V{m}\nVw\nibuiltins\nopen\n.".encode(),
    "OBJ": lambda m: f"(cbuiltins\nopen\nV{m}\nVw\no.".encode(),
    "FRAME": lambda m: P5 + framed(called(OPEN, *arguments(m)) + b"."),
    "in a memo": lambda m: P4 + OPEN + b"\x940h\x00(" + b"".join(arguments(m)) + b"tR.",
    "dotted": lambda m: (
        P4 + called(named("stable_baselines3.common.save_util", "os.system"), word(f"touch {m}")) + b"."
    ),
    "dotted in an allowed class": lambda m: (
        P4 + called(named("torch.nn.modules.module", "Module.forward.__globals__.__class__"))
        + b"0" + called(OPEN, *arguments(m)) + b"."
    ),
    "a function of an allowed package": lambda m: (
        P4 + called(named("stable_baselines3.common.save_util", "open_path"), *arguments(m)) + b"."
    ),
    "exec": lambda m: P4 + called(EXEC, script(m)) + b".",
    "getattr": lambda m: (
        P4 + called(called(named("builtins", "getattr"), named("stable_baselines3.common.save_util", "io"),
                           word("open")), *arguments(m)) + b"."
    ),
    "a partial function called": lambda m: P4 + called(called(PARTIAL, OPEN), *arguments(m)) + b".",
    "__setstate__ among the attributes": lambda m: (
        P4 + attribute(SPACE, __setstate__=called(PARTIAL, OPEN, word(str(m)))) + word("w") + b"b."
    ),
    "extend among the attributes": lambda m: (
        P4 + attribute(SPACE, extend=called(PARTIAL, named("os", "spawnv"), value(0), word("/bin/sh")))
        + b"(" + word("sh") + word("-c") + word(f"> {m}") + b"e."
    ),
    "append among the attributes": lambda m: P4 + attribute(SPACE, append=called(PARTIAL, EXEC)) + script(m) + b"a.",
    "add among the attributes": lambda m: (
        P4 + attribute(SPACE, add=called(PARTIAL, EXEC)) + b"(" + script(m) + b"\x90."
    ),
    "a partial function's state": lambda m: (
        P4 + called(called(PARTIAL, RELU) + b"(" + OPEN + b")}Ntb", *arguments(m)) + b"."
    ),
    "torch's storage": lambda m: (
        P4 + called(named("torch.storage", "_load_from_bytes"), value(bytes(_torch_bytes(m)))) + b"."
    ),
    "a generator's second argument": lambda m: (
        P4 + called(named("numpy.random._pickle", "__generator_ctor"), script(m), EXEC) + b"."
    ),
}  # fmt: skip


def _torch_bytes(marker):
    class Payload:
        def __reduce__(self):
            return open, (str(marker), "w")

    buffer = io.BytesIO()
    torch.save(Payload(), buffer)
    return buffer.getvalue()


#: Must be refused as well, but need more than pickle.loads.
OTHERS = {
    "NEWOBJ": lambda m: P4 + OPEN + b"(" + b"".join(arguments(m)) + b"t\x81.",
    "NEWOBJ_EX": lambda m: P4 + OPEN + b"(" + b"".join(arguments(m)) + b"t}\x92.",
    "NEWOBJ_EX of a space": lambda m: P4 + named("gymnasium.spaces.box", "Box") + b")}" + word("a") + b"Ns\x92.",
    "PERSID": lambda m: b"P1\n.",
    "BINPERSID": lambda m: b"K\x01Q.",
    "EXT1": lambda m: P4 + called(b"\x82\xf0", *arguments(m)) + b".",
    "a call of a space": lambda m: P4 + called(named("gymnasium.spaces.box", "Box"), value(0), value(1)) + b".",
    "a generator's class": lambda m: (
        P4 + called(named("numpy.random._pickle", "__bit_generator_ctor"), called(PARTIAL, OPEN, *arguments(m))) + b"."
    ),
    "a call of a module": lambda m: P4 + called(RELU) + b".",
    "a partial function of a function": lambda m: P4 + called(PARTIAL, OPEN, *arguments(m)) + b".",
    "a partial function of list": lambda m: P4 + called(PARTIAL, named("builtins", "list")) + b".",
    "a name over two lines": lambda m: P4 + named("os\nerror: x", "system") + b".",
    "a long name": lambda m: P4 + named("stable_baselines3.__main__", "x") + b".",
    "nothing": lambda m: b"",
    "the middle of one": lambda m: P4 + OPEN,
    "an empty stack": lambda m: P4 + b"R.",
}  # fmt: skip
ATTACKS = {**RUNS, **OTHERS}


def stored(found, protocol=4, **attributes):
    """Bytes of a VecNormalize as SB3 stores it, with other attributes."""
    changed = VecNormalize.__new__(VecNormalize)
    vars(changed).update(vars(found))
    vars(changed).update(venv=None, class_attributes=None, returns=None, **attributes)
    return pickle.dumps(changed, protocol)


# -- files ------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A folder with a zip and its statistics, with which every command works."""
    folder = tmp_path_factory.mktemp("good")
    env = VecNormalize(make_vec_env("Pendulum-v1", 1, seed=0), norm_reward=False)
    model = PPO("MlpPolicy", env, n_steps=16, batch_size=16, n_epochs=1,
                policy_kwargs={**SMALL, "activation_fn": torch.nn.Tanh},
                learning_rate=lambda left: 1e-3 * left, seed=0, device="cpu")  # fmt: skip
    model.learn(16)
    model.save(folder / "agent")
    env.save(str(folder / "vecnormalize.pkl"))
    return folder


@pytest.fixture
def agent(good, tmp_path):
    """A copy to change: (zip, statistics)."""
    for name in ("agent.zip", "vecnormalize.pkl"):
        (tmp_path / name).write_bytes((good / name).read_bytes())
    return tmp_path / "agent.zip", tmp_path / "vecnormalize.pkl"


def change(path, *, add=None, plain=None, **pickles):
    """Put other pickles, plain values or files into a zip."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    data = json.loads(parts["data"])
    data.update(plain or {})
    for key, content in pickles.items():
        old = data.get(key)
        kept = old if isinstance(old, dict) else {}
        data[key] = {**kept, ":type:": "x", ":serialized:": base64.b64encode(content).decode()}
    parts["data"] = json.dumps(data).encode()
    parts.update(add or {})
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the marker is not closed
@pytest.mark.parametrize("attack", RUNS)
def test_the_attacks_are_real(attack, tmp_path):
    marker = tmp_path / "marker"
    with contextlib.suppress(Exception):
        if attack == "torch's storage":  # as it was before torch looked itself
            torch.load(io.BytesIO(_torch_bytes(marker)), weights_only=False)
        else:
            pickle.loads(RUNS[attack](marker))
    assert marker.exists()


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_attack_runs(attack, agent, tmp_path):
    zipped, statistics = agent
    marker, original = tmp_path / "marker", zipped.read_bytes()
    copyreg.add_extension("builtins", "open", 0xF0)
    try:
        content = ATTACKS[attack](marker)
        for key in ("observation_space", "action_space", "policy_kwargs", "policy_class"):
            zipped.write_bytes(original)
            change(zipped, **{key: content})
            with pytest.raises(ValueError, match=r"."):
                load_agent(zipped)
            assert not marker.exists()
        zipped.write_bytes(original)
        change(zipped, learning_rate=content, ep_info_buffer=content, lr_schedule=content, extra=content)
        assert load_agent(zipped, vec_normalize=None).training_returns.size == 0
        statistics.write_bytes(content)
        with pytest.raises(ValueError, match=r"."):
            load_agent(zipped)
    finally:
        copyreg.remove_extension("builtins", "open", 0xF0)
    assert not marker.exists()


# -- memory -----------------------------------------------------------------------------------------------------------
def kind(text, state=None):
    opcodes = called(named("numpy", "dtype"), word(text), b"\x89", b"\x88")
    return opcodes if state is None else opcodes + value(state) + b"b"


def array(state):
    made = called(named(KINDS[0], "_reconstruct"), named("numpy", "ndarray"), value((0,)), value(b"b"))
    return made + b"(" + b"".join(state) + b"tb"


FLAGLESS = kind("O8", (3, "|", None, None, None, -1, -1, 0))
MEMORY = {
    "bytes as an object": called(named(KINDS[0], "scalar"), FLAGLESS, value(b"ABCDEFGH")),
    "bytes as an array of objects": array([value(1), value((1,)), FLAGLESS, b"\x89", value(b"ABCDEFGH")]),
    "a list that is too short": array([value(1), value((10**6,)), kind("O8"), b"\x89", value([])]),
    "a negative shape": array([value(1), value((-1, -8)), kind("f8"), b"\x89", value(b"")]),
    "fields outside": array([
        value(1), value((1,)),
        called(named("numpy", "dtype"), word("V8"), b"\x89", b"\x88")
        + b"(" + value(3) + word("|") + b"N" + value(("x",))
        + b"}" + word("x") + b"(" + kind("i8") + value(1 << 30) + b"ts" + value(8) + value(1) + value(0) + b"tb",
        b"\x89", value(b"ABCDEFGH"),
    ]),
    "freed under a view": (
        array([value(1), value((10**5,)), kind("f8"), b"\x89", value(bytes(8 * 10**5))]) + b"\x940"
        + called(named("numpy._core.numeric", "_frombuffer"), b"h\x00", kind("f8"), value((10**5,)), word("C"))
        + b"\x940h\x00(" + value(1) + value((0,)) + kind("f8") + b"\x89" + value(b"") + b"tb0h\x01"
    ),
    "StringDType": array([
        value(1), value((1,)), called(named("numpy.dtypes", "StringDType")), b"\x89", value(bytes(16))
    ]),
}  # fmt: skip


@pytest.mark.parametrize("attack", MEMORY)
def test_numpy_is_not_made_to_read_where_it_should_not(attack, agent):
    """Each of these ends the process, or worse, where NumPy restores the state itself."""
    zipped, statistics = agent
    with pytest.raises(Exception, match=r"."):
        loads(P4 + MEMORY[attack] + b".")
    change(zipped, observation_space=P4 + attribute(SPACE, low=MEMORY[attack]) + b".")
    with pytest.raises(ValueError, match="damaged"):
        load_agent(zipped)
    statistics.write_bytes(P4 + MEMORY[attack] + b".")
    with pytest.raises(ValueError, match="VecNormalize"):
        load_agent(zipped)


@pytest.mark.parametrize("name", ["MT19937", "Philox"])
def test_states_of_generators_are_not_believed(name):
    state = getattr(np.random, name)().state
    (state["state"] if name == "MT19937" else state)["pos" if name == "MT19937" else "buffer_pos"] = 10**8
    module = {"MT19937": "numpy.random._mt19937", "Philox": "numpy.random._philox"}[name]
    made = called(named("numpy.random._pickle", "__bit_generator_ctor"), named(module, name))
    found = loads(P4 + made + value(state) + b"b.")
    assert isinstance(found.random_raw(), int)
    unmade = loads(P4 + named(module, name) + b")\x81.")
    assert refused_in(unmade)


def test_an_attribute_that_numpy_would_take_for_memory():
    """``__array_interface__`` holds an address."""
    made = attribute(
        SPACE, __array_interface__=value({"data": (4096, False), "shape": (8,), "typestr": "|u1"})
    )
    space = loads(P4 + made + b".")
    assert "__array_interface__" not in vars(space)


def test_methods_are_not_replaced(agent):
    replaced = called(PARTIAL, RELU)
    space = loads(
        P4 + attribute(SPACE, contains=replaced, sample=replaced, anything=replaced, n=value(3)) + b"."
    )
    assert vars(space) == {"n": 3}
    ordered = loads(
        P4 + attribute(called(named("collections", "OrderedDict")), get=replaced, keys=replaced) + b"."
    )
    assert not vars(ordered)
    vars_ = loads(P4 + SPACE + b"(}(" + word("n") + value(1) + b"u}(" + word("sample") + replaced + b"utb.")
    assert vars(vars_) == {"n": 1}  # the state of slots
    rms = loads(P4 + attribute(named("stable_baselines3.common.running_mean_std", "RunningMeanStd") + b")\x81",
                               update=replaced, mean=value(0.0)) + b".")  # fmt: skip
    assert vars(rms) == {"mean": 0.0}


def test_classes_are_not_changed():
    for built in (RELU, named("gymnasium.spaces.box", "Box"), named("numpy", "ndarray"), OPEN):
        loads(P4 + attribute(built, forward=value(1), sample=value(1), hostile=value(1)) + b".")
    assert callable(torch.nn.ReLU.forward)
    assert callable(spaces.Box.sample)
    assert not hasattr(torch.nn.ReLU, "hostile")


# -- the zip's plain part, and configurations --------------------------------------------------------------------------
@pytest.fixture
def module(tmp_path, monkeypatch):
    """An importable module that makes the marker: its name, and the marker."""
    folder, marker = tmp_path / "modules", tmp_path / "marker"
    folder.mkdir()
    (folder / "hostile_module.py").write_text(f"open({str(marker)!r}, 'w')\n")
    monkeypatch.syspath_prepend(str(folder))
    yield "hostile_module", marker
    sys.modules.pop("hostile_module", None)


@pytest.mark.parametrize("key", ["env", "eval_env"])
def test_an_environment_in_the_zip_is_not_made(key, agent, module):
    zipped, _ = agent
    name, marker = module
    for how in ({"plain": {key: f"{name}:Pendulum-v1"}}, {key: pickle.dumps(f"{name}:Pendulum-v1")}):
        change(zipped, **how)
        load_agent(zipped)
        assert not marker.exists()


@pytest.mark.parametrize("key", ["predict", "_setup_model", "set_parameters", "__class__", "get_env"])
def test_plain_values_do_not_stand_for_methods(key, agent):
    zipped, _ = agent
    change(zipped, plain={key: "x"})
    with pytest.raises(ValueError, match=key):
        load_agent(zipped)


def test_plain_values_that_would_be_written_to_or_looked_up(agent, tmp_path):
    zipped, _ = agent
    change(zipped, plain={"tensorboard_log": str(tmp_path / "marker"), "device": "meta", "_logger": "x",
                          "_vec_normalize_env": [1], "policy": "x", "ep_info_buffer": 3})  # fmt: skip
    opened = load_agent(zipped)
    assert opened.model.tensorboard_log is None
    assert opened.model.device == torch.device("cpu")
    assert opened.training_returns.size == 0
    change(zipped, plain={"policy_class": "MlpPolicy"})
    with pytest.raises(ValueError, match="policy_class"):
        load_agent(zipped)


@pytest.mark.parametrize("name", ["policy.__class__", "__class__", "policy.optimizer"])
def test_names_of_variables_are_of_the_model(name, agent):
    zipped, _ = agent
    buffer = io.BytesIO()
    torch.save({name: torch.zeros(1)}, buffer)
    change(zipped, add={"pytorch_variables.pth": buffer.getvalue()})
    with pytest.raises(ValueError, match="entries that no PPO has"):
        load_agent(zipped)


@pytest.mark.parametrize(
    "name", ["policy.pth", "policy.__class__.pth", "../../x.pth", "pytorch_variables.pth"]
)
def test_weights_are_only_weights(name, agent, tmp_path):
    zipped, _ = agent
    marker = tmp_path / "marker"
    change(zipped, add={name: _torch_bytes(marker)})
    with pytest.raises(ValueError, match="cannot be loaded"):
        load_agent(zipped)
    assert not marker.exists()


@pytest.mark.parametrize("there", ["folder", "Python"])
def test_the_environment_of_a_configuration_is_not_code_of_the_folder(
    there, agent, tmp_path, monkeypatch, capsys
):
    run, marker = tmp_path / "run", tmp_path / "marker"
    run.mkdir()
    agent[0].rename(run / "model.zip")
    (run / "hostile_code.py").write_text(f"open({str(marker)!r}, 'w')\n")
    name = "hostile_code" if there == "folder" else "antigravity"
    (run / "config.json").write_text(json.dumps({"env_id": f"{name}:Pendulum-v1", "agent": "a"}))
    monkeypatch.chdir(run)
    with pytest.warns(UserWarning, match="import code of that folder or of Python itself"):
        assert load_agent(run).env_id is None
    assert main(["evaluate", str(run), "--episodes", "1", "--strengths", "0"]) == 2
    assert "Pass --env ID" in capsys.readouterr().err
    assert not marker.exists()
    assert name not in sys.modules


@pytest.mark.parametrize("text", [
    "!!python/object/apply:builtins.open ['{}', w]",
    "a: !!python/object/new:builtins.open ['{}', w]",
    "!!python/object/apply:collections.OrderedDict\n- - - a\n    - !!python/object/apply:builtins.open ['{}', w]",
    "a: !!python/name:os.system\nb: !!python/module:antigravity\nc: '{}'",
])  # fmt: skip
def test_yaml_of_the_zoo(text, agent, tmp_path):
    settings, marker = tmp_path / "Pendulum-v1", tmp_path / "marker"
    settings.mkdir()
    for name in ("config.yml", "args.yml"):
        (settings / name).write_text(text.format(marker))
    load_agent(agent[0])
    assert not marker.exists()
    assert "antigravity" not in sys.modules


# -- statistics -------------------------------------------------------------------------------------------------------
def test_statistics_hold_numbers_only(agent):
    zipped, statistics = agent
    found = pickle.loads(statistics.read_bytes())
    for name, odd in (
        ("mean", spaces.Discrete(2)),
        ("mean", "x"),
        ("var", np.array([None] * 3)),
        ("count", None),
    ):
        rms = RunningMeanStd(shape=(3,))
        setattr(rms, name, odd)
        statistics.write_bytes(stored(found, obs_rms=rms))
        with pytest.raises(ValueError, match="VecNormalize without"):
            load_agent(zipped)
    for odd in ({"clip_obs": "x"}, {"epsilon": [1]}, {"norm_obs": "x"}, {"obs_rms": spaces.Discrete(2)}):
        statistics.write_bytes(stored(found, **odd))
        with pytest.raises(ValueError, match="VecNormalize"):
            load_agent(zipped)


def test_statistics_with_methods_among_the_attributes(agent, tmp_path):
    zipped, statistics = agent
    found, marker = pickle.loads(statistics.read_bytes()), tmp_path / "marker"
    odd = dict.fromkeys(
        ("normalize_obs", "set_venv", "getattr_recursive", "x"), partial(open, str(marker), "w")
    )
    statistics.write_bytes(stored(found, **odd))
    opened = load_agent(zipped).vec_normalize
    opened.normalize_obs(np.zeros((1, 3)))
    opened.set_venv(make_vec_env("Pendulum-v1"))
    assert "x" not in vars(opened)
    assert not marker.exists()


# -- commands ---------------------------------------------------------------------------------------------------------
def command(name, zipped, folder):
    env, episodes, short = ["--env", "Pendulum-v1"], ["--episodes", "1"], ["--rounds", "1", "--steps", "10"]
    more = {
        "certify": [],
        "export": ["--output", folder / "out.safetensors"],
        "evaluate": [*env, *episodes, "--strengths", "0"],
        "report": [*env, *episodes, "--strengths", "0", "--output", folder / "out.html"],
        "attack": [*env, *episodes, "--attack", "mad", "--epsilon", "0.1"],
        "distill": [*env, *episodes, *short, "--lipschitz-bound", "5", "--output", folder / "out.zip"],
        "frontier": [*env, *episodes, *short, "--bounds", "5", "--output", folder / "out"],
        "pack": [*env, "--output", folder / "out"],
    }[name]
    return [name, str(zipped), *map(str, more)]


COMMANDS = ["attack", "certify", "distill", "evaluate", "export", "frontier", "pack", "report"]


ENTRIES = ["policy_kwargs", "policy_class", "statistics"]
SPACE_ENTRIES = ["observation_space", "action_space"]


@pytest.mark.parametrize(
    ("name", "where"),
    [(name, where) for name in COMMANDS for where in ENTRIES]
    + [(name, where) for name in ("certify", "export") for where in SPACE_ENTRIES],
)
def test_every_command_refuses(name, where, agent, tmp_path, capsys):
    zipped, statistics = agent
    marker = tmp_path / "marker"
    content = RUNS["REDUCE"](marker)
    if where == "statistics":
        statistics.write_bytes(content)
    else:
        change(zipped, **{where: content})
    assert main(command(name, zipped, tmp_path)) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert said[0].startswith("error: ")
    assert "_io.open" in said[0] or "builtins.open" in said[0]
    assert not marker.exists()
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"certify", "export"}))
def test_spaces_come_from_the_environment_given(name, agent, tmp_path):
    zipped, _ = agent
    content = RUNS["REDUCE"](tmp_path / "marker")
    change(zipped, observation_space=content, action_space=content)
    assert main(command(name, zipped, tmp_path)) == 0
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("name", ["certify", "export"])
def test_what_acting_does_not_need_is_passed_over(name, agent, tmp_path):
    zipped, _ = agent
    marker = tmp_path / "marker"
    content = RUNS["REDUCE"](marker)
    deque = P4 + called(named("collections", "deque")) + b"(" + content[2:-1] + b"e."
    change(
        zipped,
        learning_rate=content,
        lr_schedule=content,
        clip_range=content,
        ep_info_buffer=deque,
        extra=deque,
    )
    assert main(command(name, zipped, tmp_path)) == 0
    assert not marker.exists()


def test_what_contains_itself_is_passed_over(agent):
    itself = []
    itself.append(itself)
    change(agent[0], ep_info_buffer=P4 + called(named("collections", "deque")) + value(itself) + b"a.")
    assert load_agent(agent[0]).training_returns.size == 0


def test_an_error_is_one_line(agent, tmp_path, capsys):
    zipped, _ = agent
    change(zipped, policy_kwargs=ATTACKS["a name over two lines"](None))
    assert main(command("certify", zipped, tmp_path)) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


# -- what must still open ---------------------------------------------------------------------------------------------
SPACES = [
    spaces.Box(-1, 1, (3,), np.float64),
    spaces.Box(-5, 5, (2,), np.int8),
    spaces.Box(0, 255, (1, 4, 4), np.uint8),
    spaces.Box(np.array([-np.inf, 0], np.float32), np.array([np.inf, 1], np.float32)),
    spaces.Discrete(4, start=-2),
    spaces.MultiDiscrete([[1, 2], [3, 4]]),
    spaces.MultiBinary([2, 3]),
    spaces.Dict(a=spaces.Box(-1, 1, (2,)), b=spaces.Dict(c=spaces.Discrete(2))),
    spaces.Tuple([spaces.Discrete(2), spaces.Box(-1, 1, (1,))]),
    spaces.Text(5),
]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_spaces_of_every_protocol(space, protocol):
    space.seed(3)
    found = loads(cloudpickle.dumps(space, protocol))
    assert not refused_in(found)
    assert found == space
    assert str(found.sample()) == str(space.sample())  # PCG64 goes on where it was


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_every_protocol(protocol):
    for given in (
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(3, dtype=">f4"),
        np.array(["a", "bc"]),
        np.array(3.0),
        np.zeros((0, 3)),
        np.float32(2),
        np.bool_(True),
        np.array([1, "a"], dtype=object),
    ):
        found, own = (read(pickle.dumps(given, protocol)) for read in (loads, pickle.loads))
        assert type(found) is type(own)
        assert found.dtype == own.dtype
        assert np.array_equal(found, given)


def test_names_of_the_numpy_before_2(agent):
    zipped, statistics = agent
    found = pickle.loads(statistics.read_bytes())
    with zipfile.ZipFile(zipped) as archive:
        data = json.loads(archive.read("data"))
    space = pickle.loads(base64.b64decode(data["observation_space"][":serialized:"]))
    statistics.write_bytes(stored(found, 2).replace(b"numpy._core", b"numpy.core"))
    change(zipped, observation_space=pickle.dumps(space, 2).replace(b"numpy._core", b"numpy.core"))
    opened = load_agent(zipped)
    assert opened.model.observation_space == space
    assert np.array_equal(opened.vec_normalize.obs_rms.mean, found.obs_rms.mean)


@pytest.mark.parametrize("generator", ["RandomState", "MT19937", "Philox", "SFC64", "PCG64", "PCG64DXSM"])
def test_generators(generator):
    given = getattr(np.random, generator)(3)
    if generator != "RandomState":
        given = np.random.Generator(given)
    found = loads(pickle.dumps(given))
    assert type(found) is type(given)
    assert 0 <= found.random() < 1


def test_arguments_of_policies(tmp_path):
    model = SAC(
        "MlpPolicy", "Pendulum-v1", buffer_size=10, learning_rate=lambda left: 1e-3, device="cpu",
        policy_kwargs={**SMALL, "activation_fn": partial(torch.nn.LeakyReLU, negative_slope=0.1),
                       "optimizer_class": torch.optim.RMSprop, "optimizer_kwargs": {"eps": 1e-4}},
    )  # fmt: skip
    model.save(tmp_path / "agent")
    opened = load_agent(tmp_path / "agent.zip").model
    rows = np.zeros((2, 3), np.float32)
    assert np.array_equal(
        opened.predict(rows, deterministic=True)[0], model.predict(rows, deterministic=True)[0]
    )
    assert isinstance(opened.target_entropy, float | np.floating)


def test_recurrent_policies(tmp_path):
    model = RecurrentPPO("MlpLstmPolicy", "Pendulum-v1", n_steps=16, batch_size=16, device="cpu")
    model.save(tmp_path / "agent")
    assert isinstance(load_agent(tmp_path / "agent.zip").model, RecurrentPPO)


def test_statistics_of_rewards_only_and_of_chosen_keys(agent):
    zipped, statistics = agent
    env = VecNormalize(make_vec_env("Pendulum-v1"), norm_obs=False)
    env.save(str(statistics))
    assert load_agent(zipped).vec_normalize.norm_obs is False
    statistics.write_bytes(RUNS["REDUCE"](statistics))
    with pytest.raises(RefusedError, match="open"):
        load_agent(zipped)
