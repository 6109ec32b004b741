"""A release says one version everywhere."""

from __future__ import annotations

import importlib.metadata
import tomllib

import yaml
from packaging.specifiers import SpecifierSet

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


def test_the_tested_versions_install_on_the_oldest_python_that_is_supported():
    """Debian 12 has 3.11.2; a pin that asks for 3.11.5 leaves its users without `make install`."""
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    refused = {}
    for line in constraints.splitlines():
        name, equals, _ = line.partition("==")
        if not equals or line.startswith("#"):
            continue
        try:
            wanted = importlib.metadata.metadata(name)["Requires-Python"]
        except importlib.metadata.PackageNotFoundError:  # of another extra
            continue
        if wanted and not SpecifierSet(wanted).contains("3.11.0"):
            refused[name] = wanted
    assert not refused
