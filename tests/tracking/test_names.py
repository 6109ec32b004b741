"""The scheme of names, and its table in the documentation."""

from pathlib import Path

import pytest

from lipsrl.tracking.names import JOBS, NAMES, STEP, key_part, key_parts, name_of

PAGE = Path(__file__).parents[2] / "docs" / "tracking.md"


def row(name):
    kept = {"last": "", "none": "–"}.get(name.summary, f"`{name.key}.{name.summary}`")
    over = name.step.removeprefix("robustness/<disturbance>/") if name.kind == "curve" else name.kind
    return f"| `{name.key}` | {name.unit} | {name.what} | {', '.join(name.jobs)} | {over} | {kept} |"


def test_the_page_has_the_scheme():
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = lines.index("| key | unit | what | job types | over | in the summary |")
    table = lines[start + 2 : lines.index("", start)]
    assert table == [row(name) for name in NAMES]


def test_keys_are_of_one_scheme():
    assert len({name.key for name in NAMES}) == len(NAMES)
    keys = {name.key for name in NAMES}
    for name in NAMES:
        assert set(name.jobs) <= set(JOBS)
        assert name.step in keys | {""}
        assert name.kind == "curve" or (not name.step and name.summary == "last")


@pytest.mark.parametrize(
    ("key", "entry"),
    [
        ("rollout/ep_rew_mean", "rollout/ep_rew_mean"),
        ("rollout/ep_len_mean", "rollout/*"),
        ("train/approx_kl", "train/*"),
        (STEP, STEP),
        ("smoothness/layer_share/0", "smoothness/layer_share/<i>"),
        ("robustness/gaussian/return", "robustness/<disturbance>/return"),
        ("robustness/clean_return", "robustness/clean_return"),
        ("smoothness/other", None),
    ],
)
def test_a_key_is_found(key, entry):
    found = name_of(key)
    assert (found and found.key) == entry


def test_parts_of_keys():
    assert key_parts(["a/b", "a b", "a-b", "ar1:0.1"]) == {
        "a/b": "a-b", "a b": "a-b-2", "a-b": "a-b-3", "ar1:0.1": "ar1-0_1",
    }  # fmt: skip
    assert key_part("<script>") == "script"
    assert key_part("//") == "unnamed"
    assert next(n for n in NAMES if n.key.endswith("/auc")).of(disturbance="a/b") == "robustness/a-b/auc"
