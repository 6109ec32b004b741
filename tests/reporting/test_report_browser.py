"""The page in a real browser: drawn, switched, read, on a laptop and on a phone, light and dark.

`make test` installs Debian's Chromium and axe-core where it can; without them these tests are skipped.
"""

from __future__ import annotations

import io
import itertools
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lipsrl.reporting import Portrait, write_report

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
AXE = Path(os.environ.get("AXE_CORE", ROOT / ".venv/node_modules/axe-core/axe.min.js"))
LAPTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
SCREENS = [
    pytest.param(size, scheme, id=f"{size['width']}-{scheme}")
    for size in (LAPTOP, PHONE)
    for scheme in ("light", "dark")
]
EVIL = "</script><img src=x onerror=alert(1)>" + "long-name-" * 5

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (apt-get install chromium)")


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def visit(browser):
    """Open a page as it is written, and fail at whatever it complains of or asks for."""
    opened, complaints = [], []

    def open_page(path, size=LAPTOP, scheme="light"):
        page = browser.new_page(viewport=size, color_scheme=scheme)
        page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda r: complaints.append(r.url) if not r.url.startswith(("file:", "data:")) else None,
        )
        page.on("dialog", lambda d: complaints.append(f"dialog {d.message}"))
        page.goto(path.as_uri())
        opened.append(page)
        return page

    yield open_page
    for page in opened:
        page.close()
    assert complaints == []


@pytest.fixture(scope="module")
def write(tmp_path_factory, make_evaluation, make_certificate, make_trace):
    """Write a report with every section that its agents have something for."""

    def make(agents=("ppo", "ppo-sandwich"), disturbances=("gaussian", "bias"), n_episodes=4, **given):
        grid = np.linspace(-1.0, 1.0, 25).reshape(5, 5)
        portrait = Portrait((-1, 1), (-1, 1), "angle (rad)", "velocity (rad/s)", grid, abs(grid))
        log = pd.DataFrame(
            {"time/total_timesteps": [1e3, 2e3, 3e3], "rollout/ep_rew_mean": [-9.0, -5.0, -2.0]}
        )
        shown = agents[:3]
        arguments = {
            "evaluation": make_evaluation(agents=agents, disturbances=disturbances, n_episodes=n_episodes),
            "certificates": [make_certificate(a, promise=float(i) or None) for i, a in enumerate(agents)],
            "traces": {agent: make_trace(steps=60) for agent in shown},
            "portraits": dict.fromkeys(shown, portrait),
            "sensitivities": {agent: [1.0, 2.0] for agent in shown},
            "learning": {agent: [log] for agent in shown},
            "attacks": make_evaluation(agents=agents, disturbances=("random", "mad"), n_episodes=n_episodes),
            "commands": ["lipsrl report runs/a runs/b --output report.html"],
        }
        return write_report(tmp_path_factory.mktemp("page") / "report.html", **(arguments | given))

    return make


@pytest.fixture(scope="module")
def standard(write):
    """Of three agents, so that there is a K to choose."""
    return write(agents=("ppo", "ppo-sandwich", "ppo-spectral"))


def unfold(page):
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")


@pytest.mark.parametrize(("size", "scheme"), SCREENS)
def test_the_answer_is_read_without_scrolling_and_nothing_is_cut(visit, standard, size, scheme):
    page = visit(standard, size, scheme)
    answer = page.locator(".answer").bounding_box()
    assert answer["y"] + answer["height"] <= size["height"]
    cards = page.locator(".glance li")
    assert cards.count() == 4
    first = cards.first.bounding_box()
    assert first["y"] + first["height"] <= size["height"]
    unfold(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    broken = page.evaluate(
        "[...document.querySelectorAll('.num, td .detail')].filter(n => n.getClientRects().length > 1)"
        ".map(n => n.textContent)"
    )
    assert broken == []
    outside = page.evaluate(
        """[...document.querySelectorAll('svg.plot')].flatMap(svg => {
             const box = svg.getBoundingClientRect();
             return [...svg.querySelectorAll('text')].filter(t => {
               const b = t.getBoundingClientRect();
               return b.left < box.left - 1 || b.right > box.right + 1
                 || b.top < box.top - 1 || b.bottom > box.bottom + 1;
             }).map(t => t.textContent);
           })"""
    )
    assert outside == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_figure_is_painted(visit, standard, scheme):
    page = visit(standard, LAPTOP, scheme)
    unfold(page)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 29)"}[scheme]
    plots = page.locator("svg.plot")
    assert plots.count() == 22
    for i in range(plots.count()):
        pixels = np.asarray(Image.open(io.BytesIO(plots.nth(i).screenshot())).convert("RGB")).astype(int)
        assert pixels.shape[0] > 150
        # the hues of lines, bands and maps: grey is axes and text
        coloured = (pixels.max(axis=2) - pixels.min(axis=2)) > 60
        assert coloured.sum() > 100, plots.nth(i).get_attribute("aria-label")


def test_legends_switch_lines_by_pointer_and_by_keyboard(visit, standard):
    page = visit(standard)
    figure = page.locator("#figure-disturbance-gaussian")
    button = figure.get_by_role("button", name="ppo-sandwich", exact=True)
    lines = figure.locator("svg g[data-agent='1']")
    assert lines.count() == 2
    assert all(lines.nth(i).is_visible() for i in range(2))
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert not any(lines.nth(i).is_visible() for i in range(2))
    assert figure.locator("svg g[data-agent='0']").first.is_visible()
    assert page.locator("#figure-disturbance-bias svg g[data-agent='1']").first.is_visible()  # another figure
    button.focus()
    page.keyboard.press("Space")
    assert button.get_attribute("aria-pressed") == "true"
    assert lines.first.is_visible()


def test_everything_can_be_reached_by_keyboard(visit, standard):
    page = visit(standard)
    wanted = page.locator("button, summary, nav a").count()
    seen = set()
    for _ in range(3 * wanted):
        page.keyboard.press("Tab")
        seen.add(
            page.evaluate("""(() => {
            const all = [...document.querySelectorAll('button, summary, nav a')];
            return all.indexOf(document.activeElement); })()""")
        )
    assert len(seen - {-1}) == wanted


def test_what_is_folded_is_printed(visit, standard):
    page = visit(standard)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0


@pytest.mark.skipif(not AXE.is_file(), reason=f"no axe-core in {AXE} (make test fetches it with npm)")
@pytest.mark.parametrize(("size", "scheme"), [(LAPTOP, "light"), (PHONE, "dark")], ids=["laptop", "phone"])
def test_axe_finds_no_serious_fault(browser, standard, size, scheme):
    context = browser.new_context(
        viewport=size, color_scheme=scheme, bypass_csp=True
    )  # axe is put in from outside
    page = context.new_page()
    page.goto(standard.as_uri())
    unfold(page)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")
    context.close()
    assert len(found["passes"]) > 20
    serious = [v for v in found["violations"] if v["impact"] in ("serious", "critical")]
    assert [(v["id"], v["nodes"][0]["html"], v["nodes"][0]["failureSummary"]) for v in serious] == []


def test_seven_agents_on_a_phone_are_seven_cards(visit, write):
    page = visit(
        write(agents=[f"agent {i}" for i in range(7)], disturbances=("gaussian", "ar1", "bias")), PHONE
    )
    cards = page.locator("#agents tbody tr")
    boxes = [cards.nth(i).bounding_box() for i in range(7)]
    assert all(abs(b["x"] - boxes[0]["x"]) < 1 and b["width"] > 300 for b in boxes)
    assert all(a["y"] + a["height"] <= b["y"] for a, b in itertools.pairwise(boxes))
    assert page.evaluate("document.documentElement.scrollHeight") < 13_000


@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_odd_names_and_returns_make_a_sensible_page(visit, write, make_evaluation, size):
    agents = [EVIL[:80], "x" * 80, "ppo"]
    evaluation = make_evaluation(agents=agents, n_episodes=3)
    broken = (evaluation.frame["agent"] == "ppo") & (evaluation.frame["strength"] == 0.1)
    evaluation.frame.loc[broken, ["return", "nonfinite"]] = [float("nan"), "reward"]
    page = visit(write(agents=agents, evaluation=evaluation), size)
    unfold(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    assert page.locator("img").count() == 0
    assert page.get_by_text("were not finite").or_(page.get_by_text("was not finite")).first.is_visible()


@pytest.mark.parametrize("n", [1, 2, 6, 50])
def test_so_many_agents(visit, write, n):
    """Eight are drawn, all are in the tables. Fifty take seconds: four thousand bootstrap intervals."""
    agents = ["ppo", *(f"agent {i}" for i in range(1, n))]
    page = visit(write(agents=agents, disturbances=("gaussian",), n_episodes=2))
    assert page.locator("#agents tbody tr").count() == n
    legend = page.locator("#figure-disturbance-gaussian .legend button").count()
    assert legend == min(n, 8) or (n == 1 and legend <= 1)
    assert page.evaluate("document.documentElement.scrollWidth") <= LAPTOP["width"]
