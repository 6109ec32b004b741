"""A saved view and a report together: as a file, or in W&B, where a second call updates what the first one made."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from lipsrl._files import write_text
from lipsrl.tracking._labels import check_entity
from lipsrl.tracking._wandb_workspaces import import_workspaces

_FORMAT = 1


@dataclass(frozen=True)
class Saved:
    """What W&B calls a view and a report that were saved; empty where they were not yet.

    Attributes:
        view_name, view_id: of the saved view.
        report_id: of the report.
        view_url, report_url: where they are.
    """

    view_name: str = ""
    view_id: str = ""
    report_id: str = ""
    view_url: str = ""
    report_url: str = ""


def read_saved(path: str | Path, project: str, entity: str = "") -> Saved:
    """What a file of :func:`write_dashboard` remembers of this project; nothing if there is no such file.

    Raises:
        ValueError: the file is something else, a folder, or of another project.
    """
    file = Path(path)
    if file.is_dir():
        raise ValueError(f"{file} is a folder. Name the file (.json) to write in it.")
    if not file.is_file():
        return Saved()
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        if document["format"] != _FORMAT:
            raise ValueError(f"format {document['format']!r}")
        saved = Saved(**document["saved"])
        of = (document["project"], document["entity"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{file} is not a dashboard that lipsrl wrote ({error}). Name another file, or remove it."
        ) from error
    if of[0] != project or (entity and of[1] not in ("", entity)):
        raise ValueError(
            f"{file} is the dashboard of project {of[0]!r} of {of[1] or 'nobody yet'!r}, not of {project!r} of "
            f"{entity or 'the same'!r}. Name another file."
        )
    return saved


def write_dashboard(path: str | Path, workspace: Any, report: Any, saved: Saved) -> Path:
    """Write what is (or would be) saved to ``path``, as JSON: the two specs as W&B takes them, and their names there.

    Args:
        path: of the file; it is written whole or not at all.
        workspace, report: of :func:`lipsrl.tracking.workspace` and :func:`lipsrl.tracking.report`.
        saved: their names in W&B.
    """
    document = {
        "format": _FORMAT,
        "entity": workspace.entity,
        "project": workspace.project,
        "saved": asdict(saved),
        "workspace": {
            "display_name": workspace.name,
            "spec": json.loads(_spec(workspace._to_model().spec)),
        },
        "report": {
            "title": report.title,
            "description": report.description,
            "spec": json.loads(_spec(report._to_model().spec)),
        },
    }
    return write_text(path, json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def _spec(model: Any) -> str:
    text: str = model.model_dump_json(by_alias=True, exclude_none=True)
    return text


def save_dashboard(path: str | Path, workspace: Any, report: Any, saved: Saved) -> Saved:
    """Save both in W&B, under the account of ``wandb login``. A project that is not there is created.

    Args:
        path: written as by :func:`write_dashboard` after each of the two, so that what was saved is found again.
        workspace, report: of :func:`lipsrl.tracking.workspace` and :func:`lipsrl.tracking.report`. Where they have no
            entity, they get the account's own.
        saved: names of an earlier call: the same view and report are replaced, with what was changed in them by hand.

    Returns:
        The names in W&B.

    Raises:
        ConnectionError: W&B does not answer, or refuses.
        ValueError: no account.
    """
    with _one_line():
        import wandb

        api = wandb.Api()
        entity = check_entity(workspace.entity or api.default_entity or "")
        if not entity:
            raise ValueError("entity is missing, and the W&B account has no default one: pass --entity.")
        workspace.entity = report.entity = entity
        if workspace.project not in {project.name for project in api.projects(entity)}:
            api.create_project(workspace.project, entity)
        workspace._internal_name = saved.view_name or _new_view_name()
        workspace._internal_id = saved.view_id
        workspace.save()
        saved = replace(
            saved,
            view_name=workspace._internal_name,
            view_id=workspace._internal_id,
            view_url=workspace.url,
        )
        write_dashboard(path, workspace, report, saved)
        report.id = saved.report_id
        report.save()
        saved = replace(saved, report_id=report.id, report_url=report.url)
    write_dashboard(path, workspace, report, saved)
    return saved


def _new_view_name() -> str:
    """Of hexadecimal digits: one of wandb_workspaces' own in 1,296 ends in nw, which its address leaves out."""
    return f"nw-{secrets.token_hex(6)[:11]}-v"


def view_of_url(url: str, saved: Saved) -> Saved:
    """``saved`` with the view that ``url`` shows in W&B: for one that another machine made.

    Raises:
        ConnectionError: W&B does not answer, or refuses.
        ValueError: no account, or not the address of a saved view.
    """
    workspaces, _ = import_workspaces()
    parts = urlsplit(url)
    if parts.path.count("/") != 2 or not parse_qs(parts.query).get("nw"):
        raise ValueError(
            "view must be the address of a saved view, https://HOST/ENTITY/PROJECT?nw=ID (in W&B: the view's menu, "
            f"Copy link), received {url!r}."
        )
    with _one_line():
        view = workspaces.Workspace.from_url(url)
    return replace(saved, view_name=view._internal_name, view_id=view._internal_id)


@contextmanager
def _one_line() -> Iterator[None]:
    """W&B's errors, which are many lines long or many kinds, as one line that says what to do."""
    import wandb

    try:
        yield
    except wandb.errors.UsageError as error:
        reason = _short(error).split(". ")[0].rstrip(".")
        raise ValueError(
            f"W&B does not let us in: {reason}. Log in (wandb login, or WANDB_API_KEY), or write the dashboard to a "
            "file: --spec FILE."
        ) from error
    except Exception as error:
        # some of its errors are of private classes, and its packages have no common one
        theirs = type(error).__module__.split(".")[0] in ("wandb", "wandb_workspaces", "requests")
        if not theirs or isinstance(error, ValueError):
            raise
        raise ConnectionError(
            f"W&B did not save the dashboard: {_short(error)} Try again, or write it to a file: --spec FILE."
        ) from error


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return (text if len(text) <= 200 else text[:199] + "…").rstrip(".") + "."
