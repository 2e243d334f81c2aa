"""The page in a real browser: every figure is drawn, every table can be sorted, and the console is silent."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis import load, report

Write = Callable[..., Path]

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr"]  # fmt: skip

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")]


def opened(page: Path, folder: Path) -> tuple[str, list[str]]:
    """Return the document after the page's scripts have run, and the console's lines."""
    assert CHROMIUM is not None
    command = [
        CHROMIUM,
        *QUIET,
        f"--user-data-dir={folder}",
        "--virtual-time-budget=30000",
        "--dump-dom",
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_every_figure_is_drawn_and_every_table_sorts(synthetic: Write, tmp_path: Path) -> None:
    sweep = load.sweep(synthetic(trials=24))
    report.write_html([sweep], tmp_path / "report.html")
    document, console = opened(tmp_path / "report.html", tmp_path / "profile")
    assert console == []
    plots = re.findall(r'<div class="plot[^>]*data-plot="[^"]*"[^>]*>', document)
    assert len(plots) >= 12
    assert all('data-drawn="yes"' in plot for plot in plots)
    assert len(re.findall(r'class="main-svg"', document)) >= len(plots)
    tables = re.findall(r"<table data-sortable.*?</thead>", document, re.DOTALL)
    assert all('<button type="button">' in table for table in tables)


@pytest.mark.parametrize("paper", ["A4", "letter"])
def test_nothing_is_cut_on_paper(synthetic: Write, tmp_path: Path, paper: str) -> None:
    page = tmp_path / "report.html"
    report.write_html([load.sweep(synthetic(trials=24))], page)
    # The width of the paper less its margins, and what the page says of itself when it is drawn for it.
    inside = {"A4": 210, "letter": 215.9}[paper] - 28
    probe = """<script>addEventListener("load", () => setTimeout(() => {
      dispatchEvent(new Event("beforeprint"));
      const css = [...document.styleSheets[0].cssRules].filter((rule) => rule.media?.mediaText === "print");
      const rules = css.flatMap((rule) => [...rule.cssRules]).map((rule) => rule.cssText).join(" ");
      document.head.append(Object.assign(document.createElement("style"), { textContent: rules }));
      document.body.style.width = "WIDTHmm";
      const edge = document.body.getBoundingClientRect().right + 1;
      const cut = [...document.querySelectorAll("td, th, .plot text, .plot .bg")].filter((item) => {
        const box = item.getBoundingClientRect();
        return box.width > 0 && box.right > edge;
      });
      document.title = `cut ${cut.length} of ${document.querySelectorAll("td, .plot text").length}`;
    }, 3000));</script></body>"""
    page.write_text(page.read_text().replace("</body>", probe.replace("WIDTH", str(inside))))
    document, console = opened(page, tmp_path / "profile")
    assert console == []
    assert re.search(r"<title>cut 0 of \d{3,}</title>", document), re.search("<title>.*</title>", document)


def test_the_verdicts_fit_a_phone(synthetic: Write, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    report.write_html([load.sweep(synthetic(trials=24))], page)
    frame = tmp_path / "frame.html"
    frame.write_text(f"""<iframe id="phone" src="{page.as_uri()}" style="border: 0; width: 380px"></iframe>
      <script>addEventListener("message", (event) => {{ document.title = event.data; }});</script>""")
    probe = """<script>addEventListener("load", () => setTimeout(() => {
      const cells = [...document.querySelectorAll(".stack td")];
      const out = cells.filter((cell) => cell.getBoundingClientRect().right > innerWidth);
      const hints = [...document.querySelectorAll(".long .hint")].filter((hint) => !hint.hidden);
      parent.postMessage(`${innerWidth} px, ${out.length} of ${cells.length} cells out, ${hints.length} hints`, "*");
    }, 3000));</script></body>"""
    page.write_text(page.read_text().replace("</body>", probe))
    document, _ = opened(frame, tmp_path / "profile")
    title = re.search(r"<title>380 px, 0 of (\d+) cells out, (\d+) hints</title>", document)
    assert title is not None
    assert int(title.group(1)) >= 3 * 10 + 3 * 7
    assert int(title.group(2)) >= 1
