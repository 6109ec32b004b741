"""The environment that an agent is run in, as far as a configuration says it and making it risks nothing."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lipsrl._warnings import warn_user
from lipsrl.actors._layouts import WRAPPERS, Found

#: Characters of a value from a file that a message shows.
_SHOWN = 200


def environment_of(found: Found, env: Any) -> tuple[str | None, dict[str, Any]]:
    """Id and keyword arguments for ``gymnasium.make``; an id of None where there is none that is made unasked.

    Args:
        found: the files, and what is said in them.
        env: what the user named. The id that the configuration names has the configuration's arguments.

    Warns:
        UserWarning: the configuration speaks of wrappers, of arguments that are not taken from a file, or of a module
            that would be imported from the agent's own folder.
    """
    same = isinstance(env, str) and env == found.env_id
    if env is not None and not same:
        return (env if isinstance(env, str) else _importable(found)), {}
    env_id = env if same else _importable(found)
    wrappers = {name: value for name, value in found.unmade.items() if name in WRAPPERS}
    if wrappers:
        told = ", ".join(f"{name} {_shown(value)}" for name, value in wrappers.items())
        warn_user(
            f"{str(found.zip)!r} was trained in {found.env_id!r} behind {told}: wrappers of the training are not put "
            "around the environment here."
        )
    if "env_kwargs" not in found.unmade:
        return env_id, found.env_kwargs
    why = f"{str(found.zip)!r} was trained in {found.env_id!r}; {refused_arguments(found.unmade)}"
    if same:
        warn_user(f"{why}. They are left out; pass what matters as --env-kwargs KEY:VALUE.")
        return env_id, {}
    warn_user(f"{why}. Name the environment yourself: env= (--env ID --env-kwargs KEY:VALUE).")
    return None, {}


def refused_arguments(unmade: Mapping[str, Any]) -> str:
    """Why a configuration's arguments are not used; empty where there are none of those."""
    if "env_kwargs" not in unmade:
        return ""
    return (
        f"its env_kwargs are {_shown(unmade['env_kwargs'])}, and only finite numbers, true and false are taken from a "
        "file"
    )


def _importable(found: Found) -> str | None:
    """The environment's id that a configuration names, unless making it would import a module of the folder itself."""
    if not isinstance(found.env_id, str):
        return None
    module, colon, _ = found.env_id.rpartition(":")
    folder, inside = found.zip.parent.resolve(), Path(*module.split("."))
    where = ((Path(entry or ".") / inside).resolve() for entry in ("", *sys.path))
    own = any(folder in (one, *one.parents) for one in where)
    if colon and (own or module.split(".")[0] in sys.stdlib_module_names):
        warn_user(
            f"the configuration beside {str(found.zip)!r} names the environment {found.env_id!r}, and making it would "
            "import code of that folder or of Python itself. If you want that, name it yourself: env= (--env)."
        )
        return None
    return found.env_id


def _shown(value: Any) -> str:
    """As Python writes it (no control characters of a file reach a terminal), shortened."""
    text = value if isinstance(value, str) and value.isprintable() else ascii(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + " …"
