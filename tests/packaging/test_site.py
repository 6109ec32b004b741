"""The documentation site: builds strictly, and every public name has its place in the reference."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from types import ModuleType

import pytest
import yaml

import lipsrl
from tests.packaging.test_code_in_docs import ROOT

pytest.importorskip("mkdocs", reason="pip install 'lipsrl[docs]'")
ROOMS = ["lipsrl", *(f"lipsrl.{room}" for room in lipsrl._SUBMODULES), "lipsrl.policies.baselines"]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site; a warning is an error there."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_public_name_is_in_the_reference(site):
    inventory = zlib.decompress((site / "objects.inv").read_bytes().split(b"\n", 4)[4]).decode()
    named = {line.split()[0] for line in inventory.splitlines()}
    public = {
        f"{room}.{name}": f"{room}.{name}.{name}"
        for room in ROOMS
        for name in importlib.import_module(room).__all__
        if not isinstance(getattr(importlib.import_module(room), name), ModuleType)
    }
    assert len(public) > 200
    assert [name for name, in_full in public.items() if not {name, in_full} & named] == []


def test_the_navigation_has_every_room(site):
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"reference/([\w.]+)\.md", nav))
    assert listed == {room.removeprefix("lipsrl.") for room in ROOMS} | {"commands"}


@pytest.mark.parametrize("word", ["Sandwich", "VecNormalize", "certify", "jitter", "lipsrl check"])
def test_search_finds(site, word):
    found = json.loads((site / "search" / "search_index.json").read_text())["docs"]
    assert [entry for entry in found if word.lower() in (entry["title"] + entry["text"]).lower()]


class _Loads(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        source = given.get("src") or (given.get("href") if tag == "link" else None)
        if source and re.match(r"(https?:)?//", source) and given.get("rel") != "canonical":
            self.found.append(source)


def test_pages_load_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        parser = _Loads()
        parser.feed(page.read_text(encoding="utf-8"))
        assert parser.found == [], page


def test_docstrings_are_read_without_sphinx_roles(site):
    for page in (site / "reference").glob("*.html"):
        assert not re.search(r":(class|func|meth|data|attr|mod):<code>", page.read_text(encoding="utf-8")), (
            page
        )


def test_the_configuration_is_strict():
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
    assert yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)["strict"] is True
