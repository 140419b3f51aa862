"""The page of a comparison, in a real browser: plotted, silent, and without a request."""

from collections.abc import Iterator
from typing import Any

import pytest

from quorate.simulator.compare.report import make_page
from simulator.browser import Browser, find_chromium
from simulator.compare.comparisons import CRASH, make_comparison

EVIL = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    comparison = make_comparison("tendermint", "raft", script=CRASH, length_ms=4000)
    list(comparison.run())
    made = comparison.make_document(f"quorate compare {EVIL}")
    trial = {"text": "1 of 4 lies", "seen": "broke", "as_claimed": True, "finding": EVIL}
    for found in made["engines"]:
        found["trials"] = [trial]
    made["double_spend"] = {
        "text": "of a quarter of all hash power",
        "curves": [
            {
                "name": "raced",
                "share": 0.25,
                "formula": False,
                "points": [[0, 1], [3, 0.05], [6, 0.0]],
            },
            {
                "name": "Nakamoto",
                "share": 0.25,
                "formula": True,
                "points": [[0, 1], [3, 0.06], [6, 0.004]],
            },
        ],
    }
    return made


def test_contents_end_no_script(document: dict[str, Any]) -> None:
    page = make_page(document)
    assert EVIL not in page
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    assert page == make_page(document)


@pytest.fixture(scope="module")
def browser(
    document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Browser]:
    if find_chromium() is None:
        pytest.skip("chromium is missing: apt-get install chromium")
    path = tmp_path_factory.mktemp("page") / "compare.html"
    path.write_text(make_page(document), encoding="utf-8")
    with Browser(path.as_uri()) as opened:
        yield opened
        assert opened.console == []
        assert [url for url in opened.requests if not url.startswith("file:")] == []


def test_plots_and_tables_are_drawn(browser: Browser) -> None:
    assert browser.run('document.querySelectorAll("svg").length') == 4
    assert browser.run('document.querySelectorAll("#latency-plot .curve").length') == 4
    paths = browser.run('[...document.querySelectorAll(".curve")].map((c) => c.getAttribute("d"))')
    assert all(path.startswith("M") and "NaN" not in path for path in paths)
    assert browser.run('document.querySelectorAll("#speed tbody tr").length') == 2
    assert "the leader crashes" in browser.run('document.getElementById("recoveries").textContent')
    assert EVIL in browser.run('document.getElementById("findings").textContent')
    assert EVIL in browser.run('document.getElementById("command").textContent')
    assert browser.run('document.querySelectorAll("img").length') == 0


def test_engine_can_be_hidden(browser: Browser) -> None:
    hidden = 'document.querySelectorAll(".curve[visibility=hidden]").length'
    browser.run('document.querySelector("#engines input").click()')
    assert browser.run(hidden) == 4
    browser.run('document.querySelector("#engines input").click()')
    assert browser.run(hidden) == 0


def test_pointer_reads_the_curves(browser: Browser) -> None:
    browser.run('document.getElementById("latency-plot").scrollIntoView()')
    box = browser.run(
        "(({ x, y, width, height }) => [x + width / 2, y + height / 2])"
        '(document.querySelector("#latency-plot svg").getBoundingClientRect())'
    )
    browser.move(*box)
    browser.wait('!document.getElementById("tip").hidden')
    assert "raft p99: " in browser.run('document.getElementById("tip").textContent')


def test_text_can_be_read_on_both_grounds(browser: Browser) -> None:
    contrast = """(() => {
      const light = (text) => {
        const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map((v) => {
          const c = v / 255;
          return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const ground = light(getComputedStyle(document.body).backgroundColor);
      const worst = [...document.querySelectorAll("h1, p, li, th, td, svg text")].map((e) => {
        const style = getComputedStyle(e);
        const ink = light(e.namespaceURI.endsWith("svg") ? style.fill : style.color);
        return (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
      });
      return Math.min(...worst);
    })()"""
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.call("Emulation.setEmulatedMedia", features=[feature])
        assert browser.run(contrast) >= 4.5, scheme
