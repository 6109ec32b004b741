"""Every tutorial runs as written, block by block, commands and Python, with small budgets."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import types

import pytest
from stable_baselines3 import PPO

import lipsrl._commands.attack
import lipsrl._commands.check
from lipsrl.cli import main
from lipsrl.regularizers import _attach, _methods
from tests.packaging.test_code_in_docs import ROOT, short  # noqa: F401 - a fixture

sys.path.insert(0, str(ROOT / "docs" / "site"))
import outputs

# imported before `short` puts smaller attacks into lipsrl.attacks
MEASURING = (lipsrl._commands.attack, lipsrl._commands.check)
PAGES = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
#: what a reader has time for and a test has not
BUDGETS = {
    "-n 100000": "-n 64 --hyperparams n_steps:64 n_envs:1 n_epochs:1",
    "--episodes 50": "--episodes 2",
    "--timesteps 100000": "--timesteps 64",
    "--seeds 3": "--seeds 1",
    "--strengths 0 0.05 0.1 0.2": "--strengths 0 0.1",
}
#: appended to `lipsrl COMMAND`
SHORTER = {
    "check": "--episodes 2 --max-episode-steps 20",
    "attack": "--max-episode-steps 20",
    "distill": "--rounds 1 --steps 10 --episodes 2",
    "report": "--episodes 2",
}


def typed(line, folder):
    """One command, as a shell runs it; `lipsrl` in this process, which has it imported already."""
    allowed = {0, 1} if line.endswith("|| true") else {0}
    words = shlex.split(line.removesuffix("|| true"))
    if words[0] == "lipsrl":
        status, said = main(words[1:]), ""
    else:
        assert words[0] == "python"
        variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *words[1:]]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=variables)
        status, said = done.returncode, done.stdout + done.stderr
    assert status in allowed, f"{line}\n{said}"
    return said


def commands(text):
    """The lines of a block with its budgets cut, continuation lines joined."""
    for line in text.replace("\\\n", " ").splitlines():
        for long, cut in BUDGETS.items():
            line = line.replace(long, cut)
        more = SHORTER.get(line.split()[1], "") if line.startswith("lipsrl ") else ""
        before, orelse, after = line.partition("||")
        yield f"{before.strip()} {more} {orelse}{after}".strip() if line.strip() else ""


def test_every_budget_occurs():
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [long for long in BUDGETS if long not in text] == []
    assert len(PAGES) == 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_outputs_are_where_the_script_puts_them(page):
    """Each marker follows a block and has its text; the script finds them all and changes nothing else."""
    text = page.read_text(encoding="utf-8")
    after = [outputs.OUTPUT.match(text, block.end()) for block in outputs.BLOCK.finditer(text)]
    found = [marker for marker in after if marker]
    assert len(found) == text.count("<!-- output")
    assert [marker.group() for marker in found if not marker["text"]] == []
    shown = [marker["text"] if marker else "" for marker in after]
    assert outputs.insert(text, shown) == text
    for budget in outputs.BUDGETS.get(page.stem, {}).values():
        assert f"`{budget}`" in text, "a page says with which budget its outputs were made"


def words(text):
    return set(re.findall(r"[^\W\d_]{4,}", text))


@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_runs(page, short, tmp_path, monkeypatch, capsys):  # noqa: F811
    """Every block runs and prints the words that the page shows, as far as small budgets allow."""
    monkeypatch.chdir(tmp_path)
    made = PPO.__init__
    monkeypatch.setattr(PPO, "__init__", lambda self, *a, **k: made(self, *a, **{**k, "n_steps": 64}))
    module = types.ModuleType(f"tutorial_{page.stem}")  # dataclasses look theirs up
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(
        _methods, "_KNOWN", known := dict(_methods._KNOWN)
    )  # what a page registers is forgotten
    monkeypatch.setattr(_attach, "METHODS", known)
    text = page.read_text(encoding="utf-8")
    for name, value in outputs.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    for match in outputs.BLOCK.finditer(text):
        said = ""
        if match.group(1) == "python":
            above = "\n" * (text[: match.start()].count("\n") + 1)
            exec(compile(above + match.group(2), str(page), "exec"), vars(module))
        else:
            for line in filter(None, commands(match.group(2))):
                said += typed(line, tmp_path)
        printed = words(said + capsys.readouterr().out)
        if (marker := outputs.OUTPUT.match(text, match.end())) and words(marker["text"]):
            missing = words(marker["text"]) - printed
            assert len(missing) < 0.6 * len(words(marker["text"])), (
                f"made again by docs/site/outputs.py? {missing}"
            )
