"""`lipsrl --help`: at once, and of every command."""

import re
import subprocess
import sys

import pytest

from lipsrl._commands.completion import options
from lipsrl.cli import COMMANDS, main


def as_command(code):
    """What ``code`` prints where the process is the `lipsrl` command."""
    given = f"import sys; sys.argv = ['/usr/bin/lipsrl', '--help']; {code}"
    done = subprocess.run([sys.executable, "-c", given], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_large_is_imported_for_it():
    said = as_command(
        "from lipsrl.cli import main; main(); print([m for m in ('torch', 'tyro', 'rich') if m in sys.modules])"
    )
    assert said.startswith("usage: lipsrl COMMAND")
    assert said.endswith("[]\n")


def test_policies_are_registered_when_a_command_needs_them():
    code = (
        "from lipsrl.cli import COMMANDS; [c.load() for c in COMMANDS.values()]; "
        "from stable_baselines3 import PPO; print('LipschitzMlpPolicy' in PPO.policy_aliases)"
    )
    assert as_command(code) == "True\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there(name, capsys):
    assert main(["--help"]) == 0
    assert f"  {name} " in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert f"usage: lipsrl {name}" in said
    # what `lipsrl completion` offers
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", said)) - {"--help"} == set(
        options(COMMANDS[name].load())
    )


def test_no_command_is_an_error(capsys):
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "usage: lipsrl COMMAND" in captured.err
