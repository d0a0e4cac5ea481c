"""deploy/grafana.json: panels ask for metrics that exist, do not overlap, and use the data source variable."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from factory.run.metrics import METRICS

ROOT = Path(__file__).parents[2]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]

OURS = {
    f"ray_{metric.name}{suffix}"
    for metric in METRICS
    for suffix in (("_bucket", "_count", "_sum") if metric.kind == "histogram" else ("",))
}
LABELS = {f"ray_{metric.name}": set(metric.labels) for metric in METRICS}


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\bray_\w+", expression))


def names_of_ray_s_own_dashboards() -> set[str]:
    """The metrics that the panels which come with the installed Ray ask for."""
    found = find_spec("ray.dashboard.modules.metrics")
    assert found is not None and found.submodule_search_locations
    (folder,) = found.submodule_search_locations
    return {
        name for path in Path(folder, "dashboards").glob("*_panels.py") for name in names_in(path.read_text())
    }


def test_grafana_can_read_it():
    # 41 is the classic model of Grafana 12.0; newer versions bring it up to theirs.
    assert DASHBOARD["schemaVersion"] == 41 and DASHBOARD["uid"] == "flawforge"
    assert "id" not in DASHBOARD and DASHBOARD["title"] == "Flawforge"


def test_panels_do_not_share_ids_or_places():
    assert len({panel["id"] for panel in PANELS}) == len(PANELS) >= 10
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    places = [panel["gridPos"] for panel in PANELS]
    for place in places:
        assert place["x"] >= 0 and place["w"] > 0 and place["h"] > 0 and place["x"] + place["w"] <= 24
    for one, other in combinations(places, 2):
        apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_x or apart_y, (one, other)


def test_the_data_source_is_the_variable_everywhere():
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert (
        variables["datasource"]["type"] == "datasource" and variables["datasource"]["query"] == "prometheus"
    )
    wanted = {"type": "prometheus", "uid": "${datasource}"}
    users = [*PANELS, *(target for panel in PANELS for target in panel["targets"]), variables["session"]]
    assert all(user["datasource"] == wanted for user in users)
    assert json.dumps(DASHBOARD).count('"uid"') == len(users) + 1


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_panel_asks_for_metrics_that_exist(panel: dict[str, Any]):
    assert panel["description"] and panel["targets"]
    refs = [target["refId"] for target in panel["targets"]]
    assert len(set(refs)) == len(refs)
    known = OURS | names_of_ray_s_own_dashboards()
    for target in panel["targets"]:
        names = names_in(target["expr"])
        assert names and names <= known, names - known
        assert len(re.findall(r'SessionName=~"\$session"', target["expr"])) == len(
            re.findall(r"\bray_\w+", target["expr"])
        )
        assert target["expr"].count("(") == target["expr"].count(")")


def test_labels_of_ours_exist():
    for expression in EXPRESSIONS:
        for name, inside in re.findall(r"\b(ray_flawforge_\w+)\{([^}]*)\}", expression):
            used = set(re.findall(r"(\w+)=", inside)) - {"SessionName"}
            assert used <= LABELS[name.removesuffix("_bucket")], expression
        grouped = {
            label for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(", ")
        }
        if "ray_flawforge" in expression:
            assert grouped <= {"stage", "outcome", "reason", "le"}, expression


def test_all_our_metrics_are_shown():
    shown = set().union(*map(names_in, EXPRESSIONS))
    for metric in METRICS:
        assert {name for name in shown if name.startswith(f"ray_{metric.name}")}, metric.name


def test_what_was_asked_for_is_there():
    shown = set().union(*map(names_in, EXPRESSIONS))
    assert {"ray_node_gpus_utilization", "ray_object_store_memory"} <= shown
    assert any("inqueue" in name for name in shown)


def test_the_page_names_the_metrics_with_their_labels():
    page = (ROOT / "docs" / "watching.md").read_text()
    rows = re.findall(r"^\| `ray_(flawforge_\w+)` \| (.*?) ?\| ", page, re.MULTILINE)
    assert {name: tuple(re.findall(r"`(\w+)`", labels)) for name, labels in rows} == {
        metric.name: metric.labels for metric in METRICS
    }
