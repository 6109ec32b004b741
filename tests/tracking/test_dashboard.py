"""Saving the dashboard, against a fake of the one door to W&B's servers: GraphQL calls of ``wandb.Api``.

What the servers do with a spec cannot be tried without an account; that they get one which their own classes read can.
"""

import json
import sys
import types

import pytest
import wandb

from lipsrl.tracking import report, workspace
from lipsrl.tracking._wandb_workspaces import import_workspaces
from lipsrl.tracking.dashboard import Saved, read_saved, save_dashboard, view_of_url, write_dashboard

ws, wr = import_workspaces()


class Server:
    """Views by id, projects by entity; what is asked with a dead id, or of a project that is not there, fails."""

    app_url = "https://wandb.test"

    def __init__(self):
        self.views = {}
        self.projects = {"somebody": ["another"]}
        self.fail_at = None

    def execute_graphql(self, query, variables=None):
        if "upsertView" not in query:
            (found,) = [view for view in self.views.values() if view["name"] == variables["viewName"]]
            view = {"id": found["id"], "displayName": found["displayName"], "spec": found["spec"]}
            return {"project": {"allViews": {"edges": [{"node": view}]}}}
        if variables["type"] == self.fail_at:
            raise wandb.errors.CommError("502:  bad\n gateway")
        if variables["projectName"] not in self.projects[variables["entityName"]]:
            raise wandb.errors.CommError("project not found")
        identity = variables.get("id") or f"view-{len(self.views)}"
        if variables.get("id") and identity not in self.views:
            raise wandb.errors.CommError("view not found")
        inserted = identity not in self.views
        project = {"id": "p", "name": variables["projectName"], "entityName": variables["entityName"]}
        view = {key: variables[key] for key in ("name", "displayName", "description", "type", "spec")}
        self.views[identity] = view | {"id": identity, "project": project}
        return {"upsertView": {"view": self.views[identity], "inserted": inserted}}


@pytest.fixture
def server(monkeypatch):
    server = Server()

    class Api:
        default_entity = "somebody"

        def __init__(self):
            self._service_api = server

        def projects(self, entity):
            return [types.SimpleNamespace(name=name) for name in server.projects[entity]]

        def create_project(self, name, entity):
            server.projects[entity].append(name)

    monkeypatch.setattr(wandb, "Api", Api)
    return server


def save(path, **options):
    saved = read_saved(path, "new", "somebody")
    return save_dashboard(path, workspace("new", **options), report("new", **options), saved)


def test_a_first_call_makes_the_project_a_view_and_a_report(server, tmp_path):
    saved = save(tmp_path / "d.json", agents=["ppo", "a 🚀"])
    assert server.projects["somebody"] == ["another", "new"]
    assert {view["type"]: view["displayName"] for view in server.views.values()} == {
        "project-view": "lipsrl: smoothness", "runs": "lipsrl: smoothness of new",
    }  # fmt: skip
    view, page = server.views[saved.view_id], server.views[saved.report_id]
    assert ws.internal.WorkspaceViewspec.model_validate_json(view["spec"]).section.panel_bank_config.sections
    assert len(wr.internal.Spec.model_validate_json(page["spec"]).blocks) > 10
    assert saved.view_url.startswith("https://wandb.test/somebody/new?nw=")
    assert saved.report_url.startswith("https://wandb.test/somebody/new/reports/")


def test_a_second_call_updates_the_same_two(server, tmp_path):
    first = save(tmp_path / "d.json", disturbances=["gaussian"])
    before = {name: view["spec"] for name, view in server.views.items()}
    assert save(tmp_path / "d.json", disturbances=["bias"]) == first
    assert set(server.views) == set(before)
    assert all(server.views[name]["spec"] != spec for name, spec in before.items())
    assert server.projects["somebody"] == ["another", "new"]


def test_what_was_saved_before_a_failure_is_found_again(server, tmp_path):
    server.fail_at = "runs"
    with pytest.raises(
        ConnectionError, match=r"^W&B did not save the dashboard: 502: bad gateway\. Try again.*--spec"
    ):
        save(tmp_path / "d.json")
    server.fail_at = None
    kept = read_saved(tmp_path / "d.json", "new")
    assert kept.view_id in server.views
    assert save(tmp_path / "d.json").view_id == kept.view_id
    assert len(server.views) == 2


def test_the_file_is_what_was_sent(server, tmp_path):
    saved = save(tmp_path / "d.json")
    document = json.loads((tmp_path / "d.json").read_text())
    assert document["workspace"]["spec"] == json.loads(server.views[saved.view_id]["spec"])
    assert document["report"]["spec"] == json.loads(server.views[saved.report_id]["spec"])
    assert (document["entity"], document["project"]) == ("somebody", "new")


def test_no_view_has_a_name_that_its_address_leaves_out_in_part(server, tmp_path, monkeypatch):
    """«nw-63yv7edqlnw-v» would have the address nw=63yv7edqlv, which finds nothing."""
    internal = sys.modules["wandb_workspaces.workspaces.internal"]
    monkeypatch.setattr(internal.runid, "generate_id", lambda length: "63yv7edqlnw")
    saved = save(tmp_path / "d.json")
    assert view_of_url(saved.view_url, Saved()).view_name == saved.view_name


def test_a_view_of_another_machine_is_taken_over_by_its_address(server, tmp_path):
    saved = save(tmp_path / "d.json")
    found = view_of_url(saved.view_url, Saved())
    assert (found.view_id, found.report_id) == (saved.view_id, "")
    name = server.views[saved.view_id]["name"]
    save_dashboard(tmp_path / "e.json", workspace("new"), report("new"), found)
    assert sum(view["type"] == "project-view" for view in server.views.values()) == 1
    assert server.views[saved.view_id]["name"] in (name, name.removeprefix("nw-").removesuffix("-v"))
    for url in ("https://wandb.test/somebody/new", "new", ""):
        with pytest.raises(ValueError, match="view must be the address of a saved view"):
            view_of_url(url, Saved())


def test_an_account_without_a_default_entity(server, tmp_path, monkeypatch):
    monkeypatch.setattr(wandb.Api, "default_entity", None)
    with pytest.raises(ValueError, match="pass --entity"):
        save(tmp_path / "d.json")
    assert server.views == {}


def test_a_file_of_another_project_or_of_something_else_is_refused(tmp_path):
    path = write_dashboard(
        tmp_path / "d.json", workspace("one", "me"), report("one", "me"), Saved("n", "i", "r")
    )
    assert read_saved(path, "one", "me") == read_saved(path, "one") == Saved("n", "i", "r")
    with pytest.raises(ValueError, match="is the dashboard of project 'one' of 'me', not of 'two'"):
        read_saved(path, "two")
    with pytest.raises(ValueError, match="not of 'one' of 'you'"):
        read_saved(path, "one", "you")
    for text in ("{", "[]", "{}", '{"format": 9}', '{"format": 1, "saved": {"what": 1}}'):
        path.write_text(text)
        with pytest.raises(ValueError, match="is not a dashboard that lipsrl wrote"):
            read_saved(path, "one")
    assert read_saved(tmp_path / "none.json", "one") == Saved()


def test_faults_of_ones_own_are_not_called_wandbs(server, tmp_path, monkeypatch):
    monkeypatch.setattr(ws.Workspace, "save", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(tmp_path / "d.json")
