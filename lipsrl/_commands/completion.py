"""``lipsrl completion``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, get_type_hints

import tyro
from rich.console import Console

from lipsrl._commands import COMMANDS

_BASH = """# lipsrl: completion for bash. Put it where your shell reads it:
#   lipsrl completion bash > ~/.local/share/bash-completion/completions/lipsrl
_lipsrl() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" command="${{COMP_WORDS[1]}}" options=""
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{commands} --help --version" -- "$word"))
        return
    fi
    case "$command" in
{cases}
    esac
    if [[ "$word" == -* ]]; then
        COMPREPLY=($(compgen -W "$options --help" -- "$word"))
    else
        compopt -o filenames 2>/dev/null
        COMPREPLY=($(compgen -f -- "$word"))
    fi
}}
complete -F _lipsrl lipsrl
"""
_ZSH = """#compdef lipsrl
# lipsrl: completion for zsh. Put it into a folder of your $fpath:
#   lipsrl completion zsh > ~/.zfunc/_lipsrl
_lipsrl() {{
    local -a commands=({commands})
    if (( CURRENT == 2 )); then
        _describe 'command' commands
        return
    fi
    case "$words[2]" in
{cases}
    esac
}}
if [ "$funcstack[1]" = "_lipsrl" ]; then
    _lipsrl "$@"
else
    compdef _lipsrl lipsrl
fi
"""
_FISH = """# lipsrl: completion for fish.
#   lipsrl completion fish > ~/.config/fish/completions/lipsrl.fish
complete -c lipsrl -n __fish_use_subcommand -l help -d 'what there is'
complete -c lipsrl -n __fish_use_subcommand -l version -d 'the version'
{cases}
"""


@dataclass
class Completion:
    """Print a script that lets a shell complete commands and options.

    Example: lipsrl completion bash > ~/.local/share/bash-completion/completions/lipsrl
    """

    shell: Annotated[Literal["bash", "zsh", "fish"], tyro.conf.Positional]
    """bash, zsh or fish."""

    def run(self, console: Console) -> None:
        print(script(self.shell), end="")


def options(command: type[Any]) -> list[str]:
    """Its options, as they are typed: tyro makes them of the fields."""
    hints, found = get_type_hints(command, include_extras=True), []
    for one in fields(command):
        hint = hints[one.name]
        marks = getattr(hint, "__metadata__", ())
        if any("Positional" in repr(mark) for mark in marks):
            continue
        renamed = [mark.name for mark in marks if getattr(mark, "name", None)]
        name = (renamed or [one.name])[0].replace("_", "-")
        found += [f"--{name}", f"--no-{name}"] if getattr(hint, "__origin__", hint) is bool else [f"--{name}"]
    return sorted(found)


def script(shell: str) -> str:
    """The completion script of one shell."""
    found = {name: options(command.load()) for name, command in COMMANDS.items()}
    if shell == "bash":
        cases = "\n".join(f'        {name}) options="{" ".join(own)}" ;;' for name, own in found.items())
        return _BASH.format(commands=" ".join(found), cases=cases)
    if shell == "zsh":
        commands = " ".join(f"'{name}:{_quoted(COMMANDS[name].summary)}'" for name in found)
        listed = {name: " ".join(f"'{one}'" for one in [*own, "--help"]) for name, own in found.items()}
        cases = "\n".join(
            f"        {name}) _arguments {own} '*:file:_files' ;;" for name, own in listed.items()
        )
        return _ZSH.format(commands=commands, cases=cases)
    lines = [
        f"complete -c lipsrl -n __fish_use_subcommand -a {name} -d '{_quoted(COMMANDS[name].summary)}'"
        for name in found
    ]
    lines += [
        f"complete -c lipsrl -n '__fish_seen_subcommand_from {name}' -l {one[2:]}"
        for name, own in found.items()
        for one in [*own, "--help"]
    ]
    return _FISH.format(cases="\n".join(lines))


def _quoted(text: str) -> str:
    """Inside of single quotes."""
    return text.replace("'", "").replace(":", ",")
