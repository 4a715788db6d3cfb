"""`headrace simulate` and `headrace backtest`, and the page in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from typer.testing import CliRunner

from headrace.cli import app
from headrace.offline.simulator import Plan, simulate

if TYPE_CHECKING:
    from collections.abc import Iterator

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for name in BROWSERS if (found := shutil.which(name))), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
ESTIMATOR = """
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

def build():
    return make_pipeline(StandardScaler(), LogisticRegression())
"""
MEASURE = """<!doctype html><pre id="out"></pre><iframe id="page" style="border:0;width:%(width)dpx;
height:900px" src="report.html"></iframe><script>
document.getElementById("page").onload = (loaded) => {
  const page = loaded.target.contentDocument, clipped = [], small = [];
  for (const svg of page.querySelectorAll("svg")) {
    const frame = svg.getBoundingClientRect();
    for (const text of svg.querySelectorAll("text")) {
      const box = text.getBoundingClientRect();
      if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1
          || box.bottom > frame.bottom + 1) clipped.push(text.textContent);
      if (box.height < 9) small.push(text.textContent);
    }
  }
  const outside = [...page.querySelectorAll("h1, p, li, td, dd, figure")].filter(
    (each) => each.getBoundingClientRect().right > %(width)d + 1).map((each) => each.textContent);
  document.getElementById("out").textContent = JSON.stringify({
    title: page.title, width: page.documentElement.scrollWidth, clipped, small, outside,
    charts: page.querySelectorAll("svg").length, texts: page.querySelectorAll("svg text").length,
    rows: page.querySelectorAll("tbody tr").length});
};
</script>"""


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def made(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder with history, page and gaps of a small backtest; and what it printed as JSON."""
    folder = tmp_path_factory.mktemp("backtest")
    code, _, err = run(
        "simulate", "--out", folder, "--customers", 120, "--terminals", 200, "--days", 40,
        "--fraud-share", 0.04, "--seed", 3,
    )  # fmt: skip
    assert code == 0, err
    shutil.copy(root / "layers/model/definition.py", folder / "definition.py")
    (folder / "estimator.py").write_text(ESTIMATOR, encoding="utf-8")
    code, out, err = run(
        "backtest", "--events", folder / "events.parquet", "--labels", folder / "labels.parquet",
        "--model-dir", folder, "--out", folder / "report.html", "--gaps", folder / "gaps.parquet",
        "--weeks", 2, "--resamples", 20, "--events-per-second", 50, "--worth", 20, "--json",
    )  # fmt: skip
    assert code == 0, err
    return folder, json.loads(out)


def test_history_is_written_as_it_is_simulated(made: tuple[Path, dict[str, Any]]) -> None:
    traffic = simulate(Plan(customers=120, terminals=200, days=40, fraud_share=0.04, seed=3))
    assert pl.read_parquet(made[0] / "events.parquet").equals(traffic.events)
    assert pl.read_parquet(made[0] / "labels.parquet").equals(traffic.labels)


def test_result_has_every_stage_with_intervals_cost_and_reasons(
    made: tuple[Path, dict[str, Any]],
) -> None:
    folder, result = made
    assert len(result["stages"]) == 6
    for stage in result["stages"].values():
        value, low, high = stage["metrics"]["average_precision"]
        assert 0 <= low <= high <= 1
        assert 0 <= value <= 1
    assert result["stages"]["3 real time"]["cost"]["usd"] > 0
    assert result["traffic"]["events_per_second"] == 50
    assert result["worth"]["given"] == 20
    assert {each["side"] for each in result["reasons"]} <= {"for", "against", "caution"}
    gaps = pl.read_parquet(folder / "gaps.parquet")
    assert len(gaps) == result["events"]
    parts = gaps["imputation"] + gaps["staleness"] + gaps["definition"] + gaps["model"]
    assert parts.equals(gaps["gap"], check_names=False)


def test_page_asks_for_nothing_from_elsewhere(made: tuple[Path, dict[str, Any]]) -> None:
    text = (made[0] / "report.html").read_text(encoding="utf-8")
    named = {url for url in re.findall(r"https?://[^\s\"'<)]+", text) if "www.w3.org" not in url}
    assert named == set()
    assert "<script" not in text
    assert "default-src 'none'" in text
    assert len(text) < 300_000


def test_history_that_is_too_short_is_said_in_a_sentence(root: Path, tmp_path: Path) -> None:
    assert run("simulate", "--out", tmp_path, "--customers", 20, "--days", 20)[0] == 0
    code, _, err = run(
        "backtest", "--events", tmp_path / "events.parquet", "--labels",
        tmp_path / "labels.parquet", "--model-dir", root / "layers/model",
    )  # fmt: skip
    assert code == 1
    assert "expected more than 21 days" in " ".join(err.split())


@pytest.fixture(scope="module")
def served(made: tuple[Path, dict[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """The folder's address, and the paths that were asked for."""
    asked: list[str] = []

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *parts: Any) -> None:
            asked.append(self.path)

    handler = partial(Quiet, directory=str(made[0]))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium runs it")
@pytest.mark.parametrize("width", [390, 1280])
def test_page_is_whole_in_a_browser(
    made: tuple[Path, dict[str, Any]], served: tuple[str, list[str]], width: int
) -> None:
    address, asked = served
    (made[0] / f"measure-{width}.html").write_text(MEASURE % {"width": width}, encoding="utf-8")
    dom = browse("--window-size=1400,1000", "--dump-dom", f"{address}/measure-{width}.html")
    seen = json.loads(re.search(r'<pre id="out">(.*?)</pre>', dom, re.DOTALL)[1])  # type: ignore[index]

    assert seen["title"].startswith("Backtest: ")
    assert seen["width"] <= width
    assert (seen["charts"], seen["rows"]) == (6, 16)
    assert seen["texts"] > 40
    assert (seen["clipped"], seen["small"], seen["outside"]) == ([], [], [])
    assert {path for path in asked if "favicon" not in path} <= {
        f"/measure-{width}.html", "/measure-390.html", "/report.html",
    }  # fmt: skip


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium runs it")
def test_page_prints_on_few_sheets(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    browse(f"--print-to-pdf={tmp_path / 'page.pdf'}", (made[0] / "report.html").as_uri())
    sheets = re.findall(rb"/Type\s*/Page\b", (tmp_path / "page.pdf").read_bytes())
    assert 2 <= len(sheets) <= 6


def browse(*arguments: str) -> str:
    with tempfile.TemporaryDirectory() as profile:
        done = subprocess.run(
            [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", "--virtual-time-budget=10000",
             *arguments],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
    return done.stdout
