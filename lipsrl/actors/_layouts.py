"""What SB3, rl-baselines3-zoo and lipsrl leave on a disk, and which files belong together."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lipsrl.actors._yaml import mapping_of
from lipsrl.actors.run_folder import RunFolder, are_switches

#: Names of ``CheckpointCallback``.
_CHECKPOINT = re.compile(r"(?P<prefix>.+)_(?P<steps>\d+)_steps")
_BEST = "best_model"

#: What rl-baselines3-zoo puts around an environment.
WRAPPERS = ("env_wrapper", "vec_env_wrapper")


@dataclass(frozen=True)
class Found:
    """Files of one agent.

    Attributes:
        zip: of the model.
        statistics: file of its VecNormalize, or ``None``.
        normalised: whether a configuration says that there was one; ``None`` where nothing says it.
        name, env_id, env_kwargs, seed, frame_stack: as a configuration has them.
        layout: in words.
        unmade: what a configuration says of the environment beside that, and nothing here will make: ``WRAPPERS``, and
            ``env_kwargs`` that are not taken from a file.
    """

    zip: Path
    statistics: Path | None
    name: str
    layout: str
    normalised: bool | None = None
    env_id: str | None = None
    seed: int | None = None
    frame_stack: int | None = None
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    unmade: dict[str, Any] = field(default_factory=dict)


def find(path: Path, *, statistics: bool = True) -> Found:
    """The files of the agent at ``path``: a zip, a run folder, a folder of rl-baselines3-zoo, or one with a single zip.

    Args:
        path: of a file or folder.
        statistics: whether to look for those of a VecNormalize.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: several candidates; names them.
    """
    if path.is_dir():
        return _in_folder(path, statistics)
    file = path if path.is_file() or path.suffix == ".zip" else path.with_name(path.name + ".zip")
    if not file.is_file():
        raise FileNotFoundError(
            f"{str(path)!r} is not a file or folder. Expected a zip that an SB3 model.save() wrote, or a run folder."
        )
    folder = RunFolder(file.parent)
    if file.name == folder.model_file.name and folder.config_file.is_file():
        return _run(RunFolder.open(file.parent))
    zoo = _zoo_configuration(file.parent)
    if zoo is not None:
        return _zoo(file, zoo, statistics)
    return Found(file, _beside(file) if statistics else None, file.stem, "a zip")


def _in_folder(path: Path, statistics: bool) -> Found:
    folder = RunFolder(path)
    if folder.config_file.is_file():
        return _run(RunFolder.open(path))
    zips = _visible(path, "*.zip")
    zoo = _zoo_configuration(path)
    if zoo is not None:
        final = [one for one in zips if one.stem == zoo.name]
        best = [one for one in zips if one.stem == _BEST]
        if final or best:
            return _zoo((final or best)[0], zoo, statistics)
    if len(zips) == 1:
        return find(zips[0], statistics=statistics)
    runs = sorted(one.parent.name for one in path.glob("*/config.json"))
    if runs:
        raise ValueError(
            f"{str(path)!r} is a folder of {len(runs)} run folders ({', '.join(runs[:4])}{', …' if runs[4:] else ''}). "
            "Name one of them, or several."
        )
    if zips:
        names = ", ".join(one.name for one in zips[:6])
        raise ValueError(
            f"{str(path)!r} holds {len(zips)} zips ({names}{', …' if zips[6:] else ''}). Name one of them."
        )
    raise FileNotFoundError(
        f"{str(path)!r} is not a run folder and holds no zip. Expected config.json and model.zip (`lipsrl pack` makes "
        "such a folder of a zip), a folder of rl-baselines3-zoo, or a zip that an SB3 model.save() wrote."
    )


def _run(folder: RunFolder) -> Found:
    config = folder.read_config()
    statistics = folder.normalization_file if folder.normalization_file.is_file() else None
    return Found(
        folder.model_file,
        statistics,
        str(config.get("agent", folder.path.name)),
        "a run folder",
        normalised=statistics is not None,
        env_id=config.get("env_id"),
        seed=config.get("seed"),
        frame_stack=_frames(folder, config.get("frame_stack")),
        env_kwargs=_switches(folder, config.get("env_kwargs")),
        unmade={key: config[key] for key in WRAPPERS if config.get(key)},
    )


def _switches(folder: RunFolder, given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    if are_switches(given):
        return dict(given)
    raise ValueError(
        f"{str(folder.config_file)!r} says env_kwargs={given!r}, expected names with finite numbers, true or false."
    )


def _frames(folder: RunFolder, given: Any) -> int | None:
    if given is None or (type(given) is int and given > 0):
        return given
    raise ValueError(
        f"{str(folder.config_file)!r} says frame_stack={given!r}, expected a whole number of frames, at least 1."
    )


def _zoo_configuration(folder: Path) -> Path | None:
    """``ENV/`` in a folder of rl-baselines3-zoo, where the settings of the training are."""
    found = sorted(one.parent for one in folder.glob("*/config.yml"))
    return found[0] if len(found) == 1 else None


def _zoo(file: Path, settings: Path, statistics: bool) -> Found:
    config, arguments = mapping_of(settings / "config.yml"), mapping_of(settings / "args.yml")
    normalised = _normalises(config)
    found: Path | None = None
    if statistics:
        exact = _named_after(file)
        general = settings / "vecnormalize.pkl"
        found = _only(file, exact) or (general if general.is_file() else None)
        if normalised and found is None:
            raise FileNotFoundError(
                f"{str(file)!r} was trained with VecNormalize ({settings / 'config.yml'} says so), but {general} is "
                "missing. Without it the model acts, and is certified, as another controller: restore the file, or "
                "name another as vec_normalize= (--vec-normalize)."
            )
    algorithm = str(arguments.get("algo", "agent"))
    kwargs = arguments.get("env_kwargs") or config.get("env_kwargs") or {}  # in the order of its `enjoy`
    around = {key: config[key] for key in WRAPPERS if config.get(key)}
    simple = are_switches(kwargs)
    return Found(
        file,
        found if normalised else None,
        f"{algorithm}-{file.stem}",
        "a folder of rl-baselines3-zoo",
        normalised=normalised,
        env_id=str(arguments.get("env") or settings.name),
        seed=arguments.get("seed"),
        frame_stack=config.get("frame_stack"),
        env_kwargs=dict(kwargs) if simple else {},
        unmade=around if simple else {**around, "env_kwargs": kwargs},
    )


def _normalises(config: dict[str, Any]) -> bool:
    said = f"{config.get('normalize', False)} {config.get('normalize_kwargs', '')}"
    if re.search(r"norm_obs['\"]?\s*[:=]\s*False", said):
        return False
    return not said.startswith(("False", "None"))


def _named_after(file: Path) -> list[Path]:
    """Statistics that only this zip can mean."""
    names = [
        f"{file.stem}.vecnormalize.pkl",
        f"{file.stem}_vecnormalize.pkl",
        f"{file.stem}_vec_normalize.pkl",
        f"vecnormalize_{file.stem}.pkl",
        f"{file.stem}/vecnormalize.pkl",
    ]
    checkpoint = _CHECKPOINT.fullmatch(file.stem)
    if checkpoint:
        names.append(f"{checkpoint['prefix']}_vecnormalize_{checkpoint['steps']}_steps.pkl")
    return [file.parent / name for name in names if (file.parent / name).is_file()]


def _beside(file: Path) -> Path | None:
    """The statistics that belong to the zip ``file``, or ``None`` where there are none in its folder.

    Raises:
        ValueError: there are some, and which belongs to it is not clear.
    """
    exact = _only(file, _named_after(file))
    if exact is not None:
        return exact
    folder = file.parent
    others = [one for one in _visible(folder, "*.zip") if one != file and _claims(one, file)]
    general = [
        folder / name for name in ("vecnormalize.pkl", "vec_normalize.pkl") if (folder / name).is_file()
    ]
    if len(general) == 1 and (not others or (file.stem == _BEST and len(others) == 1)):
        return general[0]
    # those of a student of lipsrl distill, too
    own = {one for zipped in _visible(folder, "*.zip") if zipped != file for one in _named_after(zipped)}
    unclear = [one for one in _visible(folder, "*.pkl") if one not in own and _names_statistics(one)]
    if unclear:
        raise _unclear(file, unclear)
    return None


def _claims(other: Path, file: Path) -> bool:
    """Whether the statistics of no name beside ``file`` may be meant for ``other``.

    A training leaves its last statistics, which are those of the final model, not of its checkpoints and best model;
    and of a checkpoint only where that is all that it has left.
    """
    checkpoint = _CHECKPOINT.fullmatch(file.stem) is not None
    if _CHECKPOINT.fullmatch(other.stem):
        return checkpoint
    if _named_after(other):  # a student of lipsrl distill has its own
        return False
    return checkpoint or other.stem != _BEST


def _visible(folder: Path, pattern: str) -> list[Path]:
    """Files of that name, without what a save that was killed has left (:func:`lipsrl._files.atomic_path`)."""
    return sorted(one for one in folder.glob(pattern) if not one.name.startswith("."))


def _names_statistics(file: Path) -> bool:
    """Whether a pickle begins with a VecNormalize, by its bytes."""
    with file.open("rb") as stream:
        return b"VecNormalize" in stream.read(300)


def _only(file: Path, found: list[Path]) -> Path | None:
    if len(found) > 1:
        raise _unclear(file, found)
    return found[0] if found else None


def _unclear(file: Path, found: list[Path]) -> ValueError:
    names = ", ".join(str(one.relative_to(file.parent)) for one in found[:6])
    return ValueError(
        f"Which statistics belong to {str(file)!r} is not clear: {names}{', …' if found[6:] else ''}. Say it: "
        f"vec_normalize=FILE (--vec-normalize FILE, or {file.name}:FILE where several are opened), or 'none' if it was "
        "trained without VecNormalize."
    )
