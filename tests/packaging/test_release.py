"""A release says one version everywhere."""

from __future__ import annotations

import tomllib

import yaml

import lipsrl
from tests.packaging.test_code_in_docs import ROOT


def test_one_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    assert (ROOT / project["tool"]["hatch"]["version"]["path"]).read_text().count(
        f'"{lipsrl.__version__}"'
    ) == 1
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == lipsrl.__version__


def test_templates_are_forms():
    for form in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        fields = yaml.safe_load(form.read_text(encoding="utf-8"))
        assert {"name", "description", "body"} <= fields.keys(), form
