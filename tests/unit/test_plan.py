"""What a deployment costs and where it ends: arithmetic that can be done by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from headrace.cli import app
from headrace.errors import Misconfigured
from headrace.loading import load_definition
from headrace.local.template import declared_parameters
from headrace.offline.plan.costs import Line, stages
from headrace.offline.plan.limits import Limit, limits
from headrace.offline.plan.settings_of import runs_per_month, settings_of
from headrace.offline.plan.sizing import Deployment, Shape, Traffic, shape_of, sized
from headrace.offline.plan.tables import (
    MEASURED,
    PRICES,
    Figure,
    Figures,
    Price,
    Tier,
    newest,
    read_figures,
    read_prices,
)
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

INFRA = ROOT / "infra"
TABLE = read_prices(newest(INFRA, PRICES))
MEASUREMENTS = read_figures(newest(INFRA, MEASURED))
SETTINGS = replace(
    settings_of(ROOT / "template.yaml"),
    shards=1, retention_hours=24, parallelization=1, batch_size=500, window_seconds=1.0,
    memory_mb=1024, architecture="x86_64", api_rate=200.0, score_days=10.0, log_days=30.4,
    runs_per_month=30.0, alarm_metrics=10,
)  # fmt: skip
SHAPE = Shape(records=2, scored_entities=("customer", "terminal"), states=3,
              batch_entity="customer")  # fmt: skip
ROUND: dict[str, float] = {
    "read_units": 3, "state_write_units": 6, "score_write_units": 1, "last_write_units": 1,
    "states_of_units": 3, "handler_us": 100, "put_state_us": 1_000, "get_state_us": 100,
    "put_score_us": 250, "request_us": 5_000, "event_bytes": 200, "score_bytes": 1_000,
    "customer_state_bytes": 500, "terminal_state_bytes": 1_500, "request_log_bytes": 700,
    "batch_log_bytes": 3_700, "run_read_units": 1, "run_write_units": 2, "run_us": 500,
    "batch_score_bytes": 1_000, "row_bytes": 500, "store_ms": 5, "platform_log_bytes": 300,
    "busy_share": 0.5, "hottest_share": 0.01, "quarantined_share": 0.001, "metrics": 50,
}  # fmt: skip


def deployment(
    events: float = 10, requests: float = 5, entities: int = 1_000_000, **settings: Any
) -> Deployment:
    figures = {name: Figure(value, "", "by hand") for name, value in ROUND.items()}
    counts = {"customer": entities, "terminal": entities // 2}
    return Deployment(
        Traffic(events, requests, 2.0, counts), replace(SETTINGS, **settings), SHAPE,
        Figures(MEASUREMENTS, figures), TABLE,
    )  # fmt: skip


def lines_of(found: Deployment, stage: int) -> dict[str, Line]:
    return {line.what: line for line in stages(found)[stage - 1].lines}


SECONDS = 2_628_000  # 730 hours


def test_real_time_bill_is_what_is_reckoned_by_hand() -> None:
    found = lines_of(deployment(), 3)
    by_hand = {
        "states read": (10 * SECONDS * 3, 78.84 * 0.125),
        "states written": (10 * SECONDS * 6, 157.68 * 0.625),
        "scores written": (10 * SECONDS, 26.28 * 0.625),
        "last scores written": (10 * SECONDS, 26.28 * 0.625),
        "shards": (730, 730 * 0.015),
        "events put": (20 * SECONDS, 52.56 * 0.014),
        # 20 records a second, and one batch a second: the window ends before it is full.
        "stream function called": (SECONDS, 2.628 * 0.2),
        # 10 events: 2 records of 100 us, 3 states of 1,100 us, 2 scores of 250 us; 15 ms of waits.
        "stream function": (SECONDS * 0.055, SECONDS * 0.055 * 0.0000166667),
        "requests": (5 * SECONDS, 13.14 * 3.5),
        "requests read states": (5 * SECONDS * 2, 26.28 * 0.125),
        "request function": (5 * SECONDS * 0.010, 131_400 * 0.0000166667),
        "states": (1.25, 1.25 * 0.25),  # 1 million of 500 bytes, half a million of 1,500
        "scores": (8.64, 8.64 * 0.25),  # ten days of 10 a second, 1,000 bytes each
        "scores, recovery": (8.64, 8.64 * 0.20),
        "batch run writes": (60_000_000, 37.5),
        "batch run": (30 * 500, 15_000 * 0.0000166667),
        "refused records": (20 * SECONDS * 0.001, 52.56 * 0.005),
        "alarms": (10, 1.0),
        "metrics": (50, 15.0),
    }
    for what, (quantity, usd) in by_hand.items():
        assert found[what].quantity == pytest.approx(quantity), what
        assert found[what].usd == pytest.approx(usd, rel=1e-6), what


def test_batch_stages_pay_for_every_entity_and_for_what_is_asked() -> None:
    first, second = lines_of(deployment(), 1), lines_of(deployment(), 2)
    for found in (first, second):
        assert found["nightly features written"].quantity == 1_500_000 * 30
        assert found["requests"].usd == pytest.approx(13.14 * 3.5)
        assert "states written" not in found
    assert first["look-ups read"].quantity == 5 * SECONDS * 2  # a state, and two halves
    assert first["look-ups mark the score as read"].quantity == 5 * SECONDS * 2
    assert second["requests read rows"].quantity == 5 * SECONDS * 4


def test_price_per_million_is_that_of_the_scores_of_a_stage() -> None:
    one, two, three = stages(deployment())
    assert one.scores == two.scores == 5 * SECONDS
    assert three.scores == 15 * SECONDS
    assert three.usd_per_million == pytest.approx(three.usd / 39.42)
    nobody_asks = stages(deployment(requests=0))
    assert nobody_asks[0].usd_per_million is None
    assert nobody_asks[2].scores == 10 * SECONDS


@given(st.floats(0.01, 1e4), st.floats(0, 1e4), st.integers(1, 10**7), st.floats(2, 100))
def test_more_traffic_never_costs_or_uses_less(
    events: float, requests: float, entities: int, times: float
) -> None:
    less = deployment(events, requests, entities)
    more = deployment(events * times, requests * times, int(entities * times))
    for one, other in zip(stages(less), stages(more), strict=True):
        assert other.usd >= one.usd
    used = {each.name: each.used for each in limits(less)}
    assert all(each.used >= used[each.name] for each in limits(more))


@given(st.floats(0.01, 1e5), st.integers(1, 20))
def test_stream_is_sized_for_its_peak(events: float, shards: int) -> None:
    found = deployment(events, shards=shards)
    size = sized(found)
    peak = 2 * events
    assert size.shards >= max(shards, 2 * peak / 1_000)
    assert 1 <= size.parallelization <= 10
    assert size.stream_concurrency * 0.5 >= peak * found.event_us / 1e6 * (1 - 1e-9)
    of_stream = [each for each in limits(found) if "stream" in each.name]
    assert len(of_stream) == 3
    assert all(each.holds(1) for each in of_stream)


def test_every_price_of_the_table_is_used_and_every_price_used_is_in_it() -> None:
    used = {
        line.price
        for architecture in ("x86_64", "arm64")
        for stage in stages(deployment(architecture=architecture, retention_hours=168))
        for line in stage.lines
    }
    assert used == set(TABLE.prices)
    with pytest.raises(Misconfigured, match="price 'gold': not in the table"):
        TABLE.price("gold")


def test_every_figure_was_measured_by_a_command_that_is_here_or_says_that_it_is_assumed() -> None:
    for name, figure in MEASUREMENTS.figures.items():
        assert bool(figure.command) != bool(figure.assumed), name
        if figure.command:
            assert (ROOT / figure.command.partition(",")[0]).is_file(), name


def test_tiers_are_paid_one_after_the_other() -> None:
    price = Price("S", "requests", 1_000, [Tier(4.0, 10_000), Tier(2.0, 20_000), Tier(1.0)], "")
    assert price.usd(5_000) == 20
    assert price.usd(15_000) == 40 + 10
    assert price.usd(50_000) == 40 + 20 + 30


def named(found: Deployment, name: str) -> Limit:
    return next(each for each in limits(found) if each.name == name)


def test_limits_end_where_division_says() -> None:
    found = deployment()  # peak: 20 events and 10 requests a second, 40 records
    assert named(found, "records on the stream").breaks_at == 1_000 / 40
    assert named(found, "rate of the API's stage").breaks_at == 200 / 10
    assert named(found, "rate of the account's APIs").breaks_at == 10_000 / 10
    assert named(found, "writes of the state table").breaks_at == 40_000 / 120
    assert named(found, "reads of the state table").breaks_at == 40_000 / (60 + 20)
    assert named(found, "batch run in one invocation").breaks_at == 900 / 500
    # 20 events of 4 ms and 10 requests of 10 ms, at half of the time of each function
    concurrency = named(found, "Lambda concurrency of the account")
    assert concurrency.breaks_at == pytest.approx(1_000 / ((0.08 + 0.1) / 0.5))


def test_what_ends_first_stands_first_and_names_a_setting_of_the_template_or_a_quota() -> None:
    found = limits(deployment())
    ends = [each.breaks_at for each in found if each.breaks_at is not None]
    assert ends == sorted(ends)
    settings = {*declared_parameters(ROOT / "template.yaml"), "ParallelizationFactor"}
    for each in found:
        named_ones = settings & set(each.moved_by.replace(",", " ").split())
        assert named_ones or "quota" in each.moved_by or "hop view" in each.moved_by, each.name
    assert all(each.holds(1) for each in found)
    assert [each.name for each in found if not each.holds(10)] == ["batch run in one invocation"]


def test_busiest_entity_is_written_once_per_batch_however_busy_it_is() -> None:
    calm = named(deployment(events=1_000), "writes of the busiest entity")
    assert calm.ceiling is not None
    assert calm.ceiling < calm.limit
    assert calm.breaks_at is None


def test_template_and_definition_are_read() -> None:
    found = settings_of(ROOT / "template.yaml")
    assert (found.shards, found.retention_hours, found.batch_size) == (1, 168, 500)
    assert (found.parallelization, found.memory_mb, found.architecture) == (1, 1769, "x86_64")
    assert found.alarm_metrics > 20
    assert runs_per_month("rate(1 day)") == pytest.approx(30.4, abs=0.1)
    assert runs_per_month("cron(0 3 * * ? *)") == runs_per_month("rate(1 day)")
    assert runs_per_month("rate(24 hours)") == pytest.approx(runs_per_month("rate(1 day)"))
    assert shape_of(load_definition(ROOT / "layers/model/definition.py")) == SHAPE


def run(*arguments: object) -> tuple[int, str, str]:
    wide = {"COLUMNS": "180"}
    result = CliRunner().invoke(app, ["plan", *[str(each) for each in arguments]], env=wide)
    return result.exit_code, result.stdout, result.stderr


def test_plan_as_json_holds_stages_limits_and_where_figures_come_from(tmp_path: Path) -> None:
    path = tmp_path / "replay.json"
    path.write_text(json.dumps({"read_units": 4.5, "customer_state_bytes": 700, "scored": 9}))
    code, out, err = run(
        "--events-per-second", 50, "--replay", path, "--figure", "store_ms=8",
        "--entities", "customer=5000", "--json",
    )  # fmt: skip
    assert code == 0, err
    found = json.loads(out)
    assert [stage["number"] for stage in found["stages"]] == [1, 2, 3]
    assert found["traffic"]["entities"] == {"customer": 5000, "terminal": 100_000}
    assert found["traffic"]["requests_per_second"] == 50
    assert found["figures"]["store_ms"] == {"value": 8, "unit": "given", "source": "--figure"}
    assert found["figures"]["read_units"]["source"].endswith("replay.json")
    assert found["figures"]["row_bytes"]["source"].startswith("assumed: ")
    reads = next(e for e in found["stages"][2]["lines"] if e["what"] == "states read")
    assert reads["quantity"] == pytest.approx(50 * SECONDS * 4.5)
    assert all(set(each["holds"]) == {"1x", "10x", "100x", "1000x"} for each in found["limits"])


def test_plan_as_tables_names_what_ends_by_ten_times_the_traffic() -> None:
    code, out, err = run("--events-per-second", 100, "--requests-per-second", 20)
    assert code == 0, err
    for said in ("Stage 3", "ParallelizationFactor", "records on the stream", "us-east-1"):
        assert said in out, said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--entities", "shop=3"], "the definition has customer, terminal"),
        (["--figure", "store_ms"], "expected NAME=NUMBER"),
        (["--replay", "nowhere.json"], "expected what `headrace replay --json` printed"),
    ],
)
def test_wrong_option_of_plan_is_told(arguments: list[str], message: str) -> None:
    code, _, err = run("--events-per-second", 1, *arguments)
    assert code == 1
    assert message in " ".join(err.split())
