"""A report in a real Chromium: it opens, sorts, filters, zooms, by mouse and keyboard, and neither runs nor fetches anything.

Without Chromium these tests are skipped, unless RLRUN_REQUIRE_BROWSER=1.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reports import grid, made
from test_report import HOSTILE, hostile

from rlrun.reports.html.material import material_of
from rlrun.reports.html.page import page_of
from rlrun.reports.records import select

WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective + " " + event.blockedURI));
"""
Open = Callable[..., Any]


def lacking(reason: str) -> None:
    if os.environ.get("RLRUN_REQUIRE_BROWSER") == "1":
        pytest.fail(f"RLRUN_REQUIRE_BROWSER=1, and {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        lacking("playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        lacking(f"there is no Chromium ({', '.join(names)})")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def film(folder: Path) -> None:
    """Two videos as ``rlrun video`` writes them."""
    import imageio.v3 as imageio

    folder.mkdir()
    frames = np.zeros((4, 32, 48, 3), np.uint8)
    frames[2:] = 255
    imageio.imwrite(folder / "best.gif", frames)
    imageio.imwrite(folder / "best.mp4", frames, fps=4, codec="libx264")


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Reports of a grid with a failed run, of a single run with videos, of a hostile sweep, and of one that has not begun."""
    place = tmp_path_factory.mktemp("reports")
    for name in ("grid", "single", "hostile", "empty", "once"):
        outputs = place / name
        if name == "hostile":
            hostile(outputs, HOSTILE)
            grid(outputs, "s")
        elif name == "grid":
            runs = grid(outputs)
            runs[-1].update(status="failed", failure="it <b>broke</b>")
        elif name == "once":
            once(outputs)
        elif name == "empty":
            for gamma in (0.9, 0.8):
                made(outputs, "s", manifest={"status": "waiting"}, algo={"name": "dqn", "gamma": gamma})
        else:
            run = made(outputs, "", 7.0, [(0, 1.0), (10, 7.0)])
            film(run.directory / "videos")
        (place / f"{name}.html").write_bytes(page_of(material_of(select(["*"], outputs)), str))
    return {path.stem: path for path in place.glob("*.html")}


def once(outputs: Path) -> None:
    """Twelve settings of two seeds with a single evaluation each; their names are long, their returns far below zero."""
    beginning, end = "activation_of_hidden_layers_" * 3, "_of_the_second_kind" * 3
    for number in range(12):
        for seed in (0, 1):
            final = -1113.46 - 100 * number - seed
            env = {"name": "x", "kwargs": {"at": f"{beginning}{number}{end}", "size": 0.1 * (number % 3)}}
            made(outputs, "s", final, [(8192, final)], {"exact": True}, seed=seed, env=env)


class Watched:
    """A page, and whatever went wrong in it: words on the console, errors, dialogs, requests for anything else."""

    def __init__(self, browser: Any, path: Path) -> None:
        self.page = browser.new_page()
        self.wrong: list[str] = []
        self.page.add_init_script(WATCH)
        self.page.on("console", lambda message: self.wrong.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: self.wrong.append(f"dialog: {dialog.message}"))
        self.page.on("request", lambda request: self._check(request.url, path.as_uri()))
        self.page.goto(path.as_uri())

    def _check(self, address: str, own: str) -> None:
        if not address.startswith((own, "data:")):
            self.wrong.append(f"request: {address}")

    def reset(self, width: int, scheme: str) -> None:
        """As it was when it was opened, but for the order of the runs."""
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.emulate_media(color_scheme=scheme)
        self.page.evaluate("document.documentElement.removeAttribute('data-theme')")
        if self.page.locator("#clear").count():
            self.page.click("#clear")
        for box in self.page.locator("#curve-controls select").all():
            box.select_option(index=0)
        if self.page.locator("#curves").count():
            self.page.get_by_role("button", name="Reset", exact=True).click()


@pytest.fixture(scope="module")
def watched() -> dict[str, Watched]:
    """Reports that are open: to open one takes longer than what is tried on it."""
    return {}


@pytest.fixture
def opened(browser: Any, reports: dict[str, Path], watched: dict[str, Watched]) -> Iterator[Open]:
    """``opened("grid", width=400)`` -> the page. Whatever goes wrong in it fails the test."""

    def open_(name: str, width: int = 1200, scheme: str = "light") -> Any:
        if name not in watched:
            watched[name] = Watched(browser, reports[name])
        watched[name].reset(width, scheme)
        return watched[name].page

    yield open_
    for each in watched.values():
        assert each.page.evaluate("window.violations") == []
        assert each.wrong == []


def shown(page: Any, column: int) -> list[str]:
    """The texts of a column of the runs that are shown, from the top."""
    return page.eval_on_selector_all(
        "#runs tbody tr:not([hidden])", f"rows => rows.map(row => row.cells[{column}].textContent)"
    )  # type: ignore[no-any-return]


def eventually(page: Any, condition: str) -> None:
    """Wait until JavaScript holds. Playwright's own waiting compiles text in the page, which its policy forbids."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(25)
    pytest.fail(f"never: {condition}")


def head(page: Any, key: str) -> Any:
    return page.locator(f'#runs th[data-key="{key}"] button')


def lines(page: Any) -> list[str]:
    """Names of the curves that are drawn of groups."""
    return page.evaluate("curves.data.filter(trace => trace.showlegend !== false).map(trace => trace.name)")  # type: ignore[no-any-return]


def span(page: Any) -> list[float]:
    return page.evaluate("curves.layout.xaxis.range.map(Number)")  # type: ignore[no-any-return]


RETURNS, STATUS = 5, 1


def test_runs_are_sorted_by_click_and_by_key(opened: Open) -> None:
    page = opened("grid")
    head(page, "return").click()
    up = [float(text) for text in shown(page, RETURNS)]
    assert up == sorted(up) and len(up) == 8 and up[0] == 50
    assert page.get_attribute('#runs th[data-key="return"]', "aria-sort") == "ascending"
    head(page, "return").focus()
    page.keyboard.press("Enter")
    assert [float(text) for text in shown(page, RETURNS)] == up[::-1]
    assert page.get_attribute('#runs th[data-key="return"]', "aria-sort") == "descending"
    head(page, "status").focus()
    page.keyboard.press("Space")
    assert shown(page, STATUS) == ["failed", *["finished"] * 7]
    assert page.locator("#runs [aria-sort]").count() == 1


def test_the_filter_hides_runs_and_their_curves(opened: Open) -> None:
    page = opened("grid")
    assert len(lines(page)) == 4
    for words, count in (
        ("seed=1", 4),
        ("return>100 finished", 3),
        ("learning_rate=1e-3 gamma!=0.9", 2),
        ("nothing", 0),
        ("FAILED", 1),
    ):
        page.fill("#filter", words)
        eventually(page, f"document.getElementById('shown').textContent === '{count} of 8 runs'")
        assert len(shown(page, 0)) == count, words
    assert lines(page) == ["learning_rate=0.001, gamma=0.99"]  # of its two runs one has finished
    page.click("#clear")
    assert len(shown(page, 0)) == 8 and len(lines(page)) == 4 and page.input_value("#filter") == ""


def test_curves_zoom_by_mouse_and_by_keys(opened: Open) -> None:
    page = opened("grid")
    low, high = span(page)
    page.locator("#curves").scroll_into_view_if_needed()
    box = page.locator("#curves .nsewdrag").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.25, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, middle + 5, steps=4)
    page.mouse.up()
    eventually(page, f"curves.layout.xaxis.range[1] - curves.layout.xaxis.range[0] < {0.6 * (high - low)}")
    page.get_by_role("button", name="Reset", exact=True).press("Enter")
    eventually(page, f"Math.abs(curves.layout.xaxis.range[1] - {high}) < 1e-6")
    page.get_by_role("button", name="Zoom in", exact=True).press("Enter")
    assert span(page) == pytest.approx([low + (high - low) / 4, high - (high - low) / 4])
    page.get_by_role("button", name="later").press("Enter")
    assert span(page)[0] == pytest.approx(low + (high - low) * 3 / 8)


def test_metric_axis_and_lines_can_be_chosen(opened: Open) -> None:
    page = opened("grid")
    page.get_by_label("against").select_option("seconds")
    assert page.evaluate("curves.layout.xaxis.title.text") == "seconds of training"
    assert page.evaluate("Math.max(...curves.data[0].x)") == 1
    page.get_by_label("Metric").select_option("evaluation: length")
    assert page.evaluate("curves.layout.yaxis.title.text") == "evaluation: length"
    page.get_by_label("Metric").select_option("evaluation: return")
    before = page.evaluate("curves.data.length")
    page.get_by_label("single runs").check()
    assert page.evaluate("curves.data.length") == before + 8
    page.get_by_label("intervals").uncheck()
    assert page.evaluate("curves.data.length") == 4 + 8


def test_a_single_evaluation_has_bars_single_runs_and_a_whole_frame(opened: Open) -> None:
    page = opened("once")
    page.get_by_label("intervals").check()
    page.get_by_label("single runs").check()
    assert page.locator("#curves .xtick").all_text_contents() == ["8,192"]
    first = "curves.data.filter(trace => trace.showlegend !== false)[0]"
    assert page.evaluate(f"[{first}.mode, {first}.y[0], {first}.error_y.array[0]]") == ["markers", -1113.96, 0.5]
    assert page.locator("#curves .errorbar").count() == 10
    assert (
        page.evaluate("curves.data.filter(trace => trace.showlegend === false).map(trace => trace.mode)")
        == ["markers"] * 20
    )
    assert len(set(page.evaluate("curves.data.slice(20).map(trace => trace.x[0])"))) == 10
    page.get_by_label("intervals").uncheck()
    assert page.locator("#curves .errorbar").count() == 0


def test_settings_can_be_told_apart(opened: Open) -> None:
    page = opened("once")
    assert len(set(lines(page))) == 10
    looks = "data.groups.map((_, group) => colourOf(group)).map(({ color, dash }) => color + dash)"
    assert len(set(page.evaluate(looks))) == 12
    assert (
        len(set(page.evaluate("bestFirst(data.groups.keys()).slice(0, 4).map((group) => colourOf(group).dash)"))) == 4
    )
    texts = ["a" * 40 + str(number) + "b" * 40 for number in range(3)]
    assert page.evaluate(f"shortenedApart({texts}, 20).length") == 3
    assert len(set(page.evaluate(f"shortenedApart({texts}, 20)"))) == 3
    assert page.evaluate(f"shortenedApart({texts}, 20)[1]") == "…aaaa1bbbb…"
    assert page.evaluate("shortenedApart(['short', 'long'], 20)") == ["short", "long"]
    twice = [
        "c" * 40 + "x" + "d" * 40 + end for end in ("1" + "e" * 40 + "1", "2" + "e" * 40 + "1", "1" + "e" * 40 + "2")
    ]
    assert len(set(page.evaluate(f"shortenedApart({twice}, 8)"))) == 3
    ticks = page.locator(".parallel .tick").all_text_contents()
    assert len(set(ticks[:12])) == 12
    width = page.locator("#curves .nsewdrag").bounding_box()["width"]
    assert width > 500  # names leave room for the curves


def overlap(one: dict[str, float], other: dict[str, float]) -> bool:
    return all(
        one[at] < other[at] + other[size] and other[at] < one[at] + one[size]
        for at, size in (("x", "width"), ("y", "height"))
    )


@pytest.mark.parametrize("width", [1200, 400])
def test_nothing_lies_over_legend_map_and_numbers(opened: Open, width: int) -> None:
    page = opened("once", width=width)
    eventually(
        page,
        f"Math.abs(curves.querySelector('.main-svg').clientWidth - curves.clientWidth) < 2 && innerWidth === {width}",
    )
    for chart, part in (("#curves", ".legend"), ("#curves", ".nsewdrag"), (".heat", ".nsewdrag")):
        buttons = page.locator(f"{chart} .modebar").bounding_box()
        assert not overlap(buttons, page.locator(f"{chart} {part}").first.bounding_box()), (chart, part)
    legend, chart = page.locator("#curves .legend").bounding_box(), page.locator("#curves").bounding_box()
    assert legend["y"] + legend["height"] <= chart["y"] + chart["height"]
    whole = page.locator(".parallel svg").bounding_box()
    ticks = [tick.bounding_box() for tick in page.locator(".parallel .tick").all()]
    assert all(tick["x"] + tick["width"] <= whole["x"] + whole["width"] for tick in ticks)
    assert "-2,214.46" in page.locator(".parallel .tick").all_text_contents()


def test_dragging_along_an_axis_keeps_the_runs_within(opened: Open) -> None:
    page = opened("grid")
    handle = page.locator(".handle").last  # of the return
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    middle, top = box["x"] + box["width"] / 2, box["y"]
    page.mouse.move(middle, top + 1)
    page.mouse.down()
    page.mouse.move(middle, top + box["height"] / 2, steps=3)
    page.mouse.up()
    assert sorted(shown(page, RETURNS)) == ["100.0", "101.0", "110.0", "111.0"]
    assert page.locator(".parallel .out").count() == 4
    page.mouse.click(middle, top + 40)
    assert len(shown(page, RETURNS)) == 8
    x, y = page.evaluate(
        """() => {
            const [first, second] = document.querySelector(".parallel .line").points;
            const box = document.querySelector(".parallel svg").getBoundingClientRect();
            return [box.left + (first.x + second.x) / 2, box.top + (first.y + second.y) / 2];
        }"""
    )
    page.mouse.move(x, y)
    assert "learning_rate=" in page.locator(".told").text_content()


def test_a_heat_map_of_two_settings_turns(opened: Open) -> None:
    page = opened("grid")
    chart = "document.querySelector('.heat')"
    assert page.evaluate(f"{chart}.data[0].z") == [[50.5, 100.5], [60, 110.5]]
    page.get_by_label("Across").select_option("algo.gamma")
    assert page.evaluate(f"{chart}.data[0].z") == [[50.5, 60], [100.5, 110.5]]
    assert page.evaluate(f"{chart}.layout.yaxis.title.text") == "algo.learning_rate"


def test_light_and_dark_by_preference_and_by_button(opened: Open) -> None:
    colours = "[getComputedStyle(document.body).backgroundColor, curves.layout.font.color]"
    page = opened("grid")
    light = page.evaluate(colours)
    page.emulate_media(color_scheme="dark")
    eventually(page, f"{colours}[1] !== '{light[1]}'")
    dark = page.evaluate(colours)
    assert dark[0] != light[0]
    page.get_by_role("button", name="Light").press("Enter")
    assert page.evaluate(colours) == light
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate(colours) == dark


def test_the_keyboard_gets_everywhere(opened: Open) -> None:
    page = opened("grid")
    page.evaluate("scrollTo(0, 0)")
    page.mouse.click(2, 2)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#Overview"
    seen = set()
    for _ in range(90):
        page.keyboard.press("Tab")
        seen.add(
            page.evaluate(
                "document.activeElement.id || document.activeElement.getAttribute('aria-label') || document.activeElement.textContent"
            )
        )
    assert {"filter", "clear", "return", "runs", "parallel coordinates", "Zoom in", "marked-only"} <= seen
    outline = page.evaluate(
        "(document.querySelector('#theme').focus(), getComputedStyle(document.activeElement).outlineStyle)"
    )
    assert outline == "solid"


def test_only_marked_settings_are_shown_at_first(opened: Open) -> None:
    page = opened("grid")
    assert not page.locator("#Settings th", has_text="algo.tau").is_visible()
    page.locator("#marked-only").uncheck()
    assert page.locator("#Settings th", has_text="algo.tau").is_visible()
    page.locator("#marked-only").check()


def test_videos_are_in_the_file(opened: Open) -> None:
    page = opened("single")
    assert page.evaluate("document.querySelector('#Videos img').naturalWidth") == 48
    video = "document.querySelector('#Videos video')"
    eventually(page, f"{video}.error !== null || {video}.readyState >= 1")
    if page.evaluate(f"{video}.error") is None:  # a Chromium without H.264 can't play it
        assert page.evaluate(f"[{video}.videoWidth, {video}.duration]") == [48, 1]


def test_a_sweep_that_has_not_begun(opened: Open) -> None:
    page = opened("empty")
    assert shown(page, STATUS) == ["waiting", "waiting"]
    assert "No run has a row of metrics yet" in page.locator("#Curves").text_content()


@pytest.mark.parametrize("name", ["grid", "single", "hostile"])
def test_nothing_is_wider_than_a_narrow_screen(name: str, opened: Open) -> None:
    page = opened(name, width=400)
    eventually(page, "curves.querySelector('.main-svg').clientWidth < 400")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.locator("#curves .main-svg").first.bounding_box()["width"] <= 400


def test_texts_of_runs_stay_texts(opened: Open) -> None:
    page = opened("hostile")
    page.locator("#marked-only").uncheck()
    assert page.evaluate("typeof window.hacked") == "undefined"
    assert page.locator("img[src=x], svg[onload], a[href^=javascript]").count() == 0
    page.get_by_label("Environment").select_option(index=0)
    assert "</scr" in page.locator(".parallel").first.text_content()
    text = page.locator("body").inner_text()
    assert text.count("<img src=x onerror=hacked=1>") > 10
    page.get_by_label("Metric").select_option(index=page.get_by_label("Metric").locator("option").count() - 1)
    assert "<img src=x onerror=hacked=1>" in page.locator("#curves .ytitle").text_content()
    assert '">a</a>' in page.locator("#curves .legend").text_content()
    assert page.locator("#curves a").count() == page.locator("#curves .modebar a").count()


def test_the_policy_holds(browser: Any, reports: dict[str, Path]) -> None:
    """What would run or fetch if a text became markup after all."""
    page = browser.new_page()
    asked: list[str] = []
    page.on("requestfinished", lambda request: asked.append(request.url))
    page.add_init_script(WATCH)
    page.goto(reports["single"].as_uri())
    page.evaluate(
        """() => {
            document.body.insertAdjacentHTML("beforeend", '<img src="x" onerror="hacked=1"><img src="http://host.invalid/a">');
            const script = document.createElement("script");
            script.textContent = "hacked=1";
            document.body.append(script);
            fetch("http://host.invalid/b").catch(() => {});
        }"""
    )
    eventually(page, "window.violations.length >= 4")
    assert page.evaluate("typeof window.hacked") == "undefined"
    assert asked == [reports["single"].as_uri()]
    page.close()
