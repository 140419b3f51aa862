"""The page of a failing run, in a real browser: drawn, clicked, filtered, and silent."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from quorate.simulator import diagram
from quorate.simulator.diagram import write_diagram
from quorate.simulator.history import History
from quorate.simulator.plan import MS
from quorate.simulator.run import run
from quorate.simulator.trace import Event
from quorate.simulator.tracer import Tracer
from simulator.browser import Browser, find_chromium
from simulator.networks import make_plan

pytestmark = pytest.mark.skipif(
    find_chromium() is None, reason="chromium is missing: apt-get install chromium"
)

EVIL = "<img src=x onerror=alert(1)>"

COLOURS = """(() => {
  const c = document.getElementById("canvas");
  const copy = document.createElement("canvas");
  [copy.width, copy.height] = [c.width, c.height];
  const context = copy.getContext("2d", { willReadFrequently: true });
  context.drawImage(c, 0, 0);
  const d = context.getImageData(0, 0, c.width, c.height).data;
  const seen = new Set();
  for (let i = 0; i < d.length; i += 4) seen.add(d[i] << 16 | d[i + 1] << 8 | d[i + 2]);
  return seen.size;
})()"""
FACTS = 'document.getElementById("facts").textContent'
DETAIL = 'document.getElementById("detail").textContent'
CHOSEN = 'document.querySelector("#{} [aria-checked=true]").textContent'
STORY = '[...document.querySelectorAll(".story li")].map((li) => li.className).join(" ")'


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    plan = make_plan(2, "default", bug="small-quorum", duration_ms=1000)
    tracer = Tracer()
    outcome = run(plan, None, tracer)
    last = tracer.events[-1]
    evil = {"kind": "note", "machine": 0, "name": EVIL, "text": EVIL}
    events = [*tracer.events, Event(number=last.number + 1, time_ns=last.time_ns, **evil)]
    history = History()
    history.invoke(60 * MS, "1", client="a", key="x", operation="write", argument=1)
    history.invoke(70 * MS, "2", client="b", key="x", operation="read")
    history.ok(80 * MS, "2", 0)
    path = tmp_path_factory.mktemp("page") / "run.html"
    write_diagram(path, events, plan, outcome, history.get_operations(), {"2"})
    return path, events


@pytest.fixture(scope="module")
def browser(page: tuple[Path, list[Event]]) -> Iterator[Browser]:
    with Browser(page[0].as_uri()) as opened:
        yield opened
        assert opened.console == []
        assert [url for url in opened.requests if not url.startswith("file:")] == []


@pytest.fixture(autouse=True)
def start_anew(browser: Browser) -> None:
    browser.run('document.getElementById("reset").click()')


def get_shown(browser: Browser) -> int:
    return int(str(browser.run(FACTS)).split(" events, ")[1].split(" shown")[0])


def get_address(browser: Browser) -> str:
    browser.run("new Promise((r) => setTimeout(r, 250))")
    return str(browser.run("location.hash"))


def get_property(page: tuple[Path, list[Event]]) -> str:
    return next(event.name for event in page[1] if event.kind == "finding")


def test_diagram_is_drawn_and_says_what_was_found(
    browser: Browser, page: tuple[Path, list[Event]]
) -> None:
    assert browser.run(COLOURS) > 20
    assert "small-quorum" in browser.run('document.getElementById("title").textContent')
    assert browser.run('document.getElementById("verdict").textContent') == "a property is violated"
    assert get_property(page) in browser.run('document.getElementById("finding").textContent')
    assert "finding" in browser.run(STORY)
    assert get_shown(browser) > 40


def test_click_on_a_point_shows_what_it_holds_and_its_past(
    browser: Browser, page: tuple[Path, list[Event]]
) -> None:
    browser.run('document.querySelector("#finding button").click()')
    assert f"FOUND: {get_property(page)}" in browser.run(DETAIL)
    browser.run('document.getElementById("canvas").focus()')
    browser.press("ArrowUp")
    box = browser.run(
        '(() => { const b = document.getElementById("canvas").getBoundingClientRect();'
        " return [b.left, b.top, b.right, b.bottom]; })()"
    )
    before = browser.run(DETAIL)
    browser.press("Escape")
    assert "No event chosen" in browser.run(DETAIL)
    clicked = False
    for y in range(int(box[3]) - 8, int(box[1]), -6):
        for part in (0.26, 0.45, 0.64):
            browser.click(box[0] + (box[2] - box[0]) * part, y)
            clicked = "No event chosen" not in browser.run(DETAIL)
            if clicked:
                break
        if clicked:
            break
    assert clicked
    assert "events happened before it" in before
    shown = get_shown(browser)
    browser.press("p")
    browser.press("h")
    assert 0 < get_shown(browser) < shown
    address = get_address(browser)
    assert "cone=past" in address
    assert "hide=1" in address


def test_past_of_the_finding_is_what_happened_before_it(
    browser: Browser, page: tuple[Path, list[Event]]
) -> None:
    _, events = page
    found = next(event for event in events if event.kind == "finding")
    previous: dict[int, int] = {}
    before: list[list[int]] = []
    for event in events:
        led = [event.cause, previous.get(event.machine, -1)]
        before.append([number for number in led if number >= 0])
        if event.machine >= 0:
            previous[event.machine] = event.number
    past: set[int] = set()
    waiting = [found.number]
    while waiting:
        for number in before[waiting.pop()]:
            if number not in past:
                past.add(number)
                waiting.append(number)
    browser.run('document.querySelector("#finding button").click()')
    assert f"{len(past)} events happened before it" in browser.run(DETAIL)


def test_filters_choose_machines_messages_and_heights(browser: Browser) -> None:
    all_shown = get_shown(browser)
    chip = 'document.querySelectorAll("#filters .chip input")[{}].click()'
    browser.run(chip.format(0))
    without_machine = get_shown(browser)
    assert 0 < without_machine < all_shown
    assert "machines=1.2.3" in get_address(browser)
    browser.run('[...document.querySelectorAll("#filters .link")][3].click()')
    assert 0 < get_shown(browser) < without_machine
    browser.run('document.getElementById("reset").click()')
    assert get_shown(browser) == all_shown


@pytest.mark.parametrize("key", ["t", "l", "r"])
def test_every_order_is_drawn(browser: Browser, key: str) -> None:
    browser.run('document.getElementById("canvas").focus()')
    browser.press(key)
    assert browser.run(COLOURS) > 20
    browser.press("r")


def test_keys_walk_along_machines_and_messages(browser: Browser) -> None:
    browser.run('document.querySelector("#finding button").click()')
    browser.run('document.getElementById("canvas").focus()')
    seen = set()
    for key in ("ArrowUp", "ArrowUp", "ArrowLeft", "Enter", "ArrowDown", "ArrowRight"):
        browser.press(key)
        seen.add(browser.run('document.getElementById("live").textContent'))
    assert len(seen) >= 4
    assert "" not in seen


def test_contents_are_text_and_can_be_found(browser: Browser) -> None:
    browser.run(
        '(() => { const f = document.getElementById("find"); f.value = "<img";'
        ' f.dispatchEvent(new Event("input")); })()'
    )
    assert browser.run('document.getElementById("found").textContent') == "1 found"
    browser.run('document.getElementById("find").focus()')
    browser.press("Enter")
    assert EVIL in browser.run(DETAIL)
    assert browser.run('document.querySelectorAll("img").length') == 0


def test_rounds_and_clients_have_their_tabs(
    browser: Browser, page: tuple[Path, list[Event]]
) -> None:
    count = 1 + max(event.machine for event in page[1])
    browser.run('document.getElementById("tab-rounds").click()')
    assert browser.run('document.querySelectorAll(".rounds [role=row]").length') == count
    browser.run('document.getElementById("tab-clients").click()')
    assert "finding" in browser.run(STORY)
    browser.run('document.getElementById("tab-story").click()')


def test_address_holds_the_view(page: tuple[Path, list[Event]]) -> None:
    view = "#order=time&event=120&cone=past&machines=0.1&theme=dark&tab=rounds"
    with Browser(page[0].as_uri() + view) as browser:
        assert browser.run(CHOSEN.format("orders")) == "Time"
        assert browser.run(CHOSEN.format("cones")) == "Past"
        assert "Event120 of" in browser.run(DETAIL)
        assert browser.run("getComputedStyle(document.documentElement).colorScheme") == "dark"
        assert browser.run(COLOURS) > 20
        assert "machines=0.1&" in get_address(browser)
        assert browser.console == []


def test_strange_addresses_do_no_harm(page: tuple[Path, list[Event]]) -> None:
    strange = "#event=-7&cone=x&machines=99..a&zoom=nan&at=1e99&low=-3&from=x&tab=<b>&without=%ff"
    with Browser(page[0].as_uri() + strange) as browser:
        assert browser.run(COLOURS) > 5
        assert browser.console == []


def test_operations_of_one_client_that_meet_stand_side_by_side(browser: Browser) -> None:
    script = (Path(diagram.__file__).parent / "page" / "history.js").read_text()
    lanes = """readHistory({ operations: [
      ["a", 60, null], ["b", 70, 80], ["a", 90, 95], ["b", 96, 97], ["a", 98, 99],
    ].map(([client, start_ns, end_ns]) => ({ client, start_ns, end_ns })) }).operations"""
    found = browser.run(f"(() => {{ {script}; return {lanes}.map((o) => o.lane); }})()")
    assert found == [0, 1, 2, 1, 2]
