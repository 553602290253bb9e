"""The report in a real browser: what it shows, on a desk, on a phone and on paper."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.claims import CLAIMS, QUESTIONS
from analysis.report import write_report
from tests.analysis import synthetic
from tests.analysis.browser import Browser, needs_browser

pytestmark = needs_browser
COLUMN = "[...document.querySelector('#{table} .sortable tbody').rows].map(row => row.cells[{n}].innerText)"

COLOURS = """
[...document.querySelectorAll('main *, header *')]
.filter(one => one.innerText && one.childElementCount === 0).map(one => {
  const behind = node => getComputedStyle(node).backgroundColor;
  let back = one;
  while (back.parentElement && /, 0\\)$/.test(behind(back))) back = back.parentElement;
  return [getComputedStyle(one).color, behind(back), one.innerText.slice(0, 30)];
})
"""


def press_enter(browser: Browser) -> None:
    """Press Enter where the focus is."""
    key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, **key)


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    folder = synthetic.write(
        tmp_path_factory.mktemp("outputs") / "shown", *synthetic.tables(widths=(16, 64), noises=("dropout",))
    )
    (folder / "environment.json").write_text(
        '{"machine": "' + "a long name without a blank " + "x" * 300 + '"}'
    )
    return write_report(folder, folder / "report")


@pytest.fixture(scope="module")
def browser(page, tmp_path_factory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        browser.open(page)
        yield browser


def test_every_image_loads_and_the_console_is_silent(browser):
    sizes = browser.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(sizes) >= 6
    assert all(size > 100 for size in sizes)
    assert browser.messages == []


def test_the_picture_and_its_sentence_are_on_the_first_screen(browser):
    browser.resize(1280, 800)
    top = "document.querySelector('main').firstElementChild.id"
    assert browser.evaluate(top) == "picture"
    for part in ("#core img", "#core figcaption p"):
        box = browser.evaluate(f"document.querySelector('{part}').getBoundingClientRect().toJSON()")
        assert 0 < box["top"] < box["bottom"] <= 800, part


def test_verdicts_are_a_line_each_that_a_key_unfolds_and_lead_to_figures(browser):
    browser.resize(1280, 800)
    folded = "[...document.querySelectorAll('.verdicts > details')]"
    assert browser.evaluate(f"{folded}.length") == len(CLAIMS) + len(QUESTIONS)
    assert not browser.evaluate(f"{folded}.some(one => one.open)")
    assert max(browser.evaluate(f"{folded}.map(one => one.getBoundingClientRect().height)")) < 70
    lines = browser.evaluate(f"{folded}.map(one => one.querySelector('summary').innerText)")
    assert lines[0].split()[:3] == ["C1", "supported", "At"]
    assert re.search(r"[+-]\d\S* \[[+-]\d\S*, [+-]\d\S*\]", lines[0])
    assert not [line for line in lines if "not testable" in line and re.search(r"\[[+-]", line)]
    browser.evaluate("document.querySelector('#C1 summary').focus()")
    press_enter(browser)
    assert browser.evaluate("document.querySelector('#C1').open")
    assert browser.evaluate("document.querySelector('#C1 li').getBoundingClientRect().height") > 10
    browser.evaluate("document.querySelector('#C1').open = false")
    linked = (
        "[...document.querySelectorAll('.verdicts a')].map(a => document.getElementById(a.hash.slice(1)))"
    )
    assert browser.evaluate(f"{linked}.length") >= 8
    assert browser.evaluate(
        f"{linked}.every(place => place && place.querySelector('img').naturalWidth > 100)"
    )


def test_a_link_to_a_claim_unfolds_it(browser):
    browser.evaluate("location.hash = 'C2'")
    browser.evaluate("new Promise(done => setTimeout(done, 50))")
    assert browser.evaluate("document.querySelector('#C2').open")
    browser.evaluate("document.querySelector('#C2').open = false; location.hash = ''")


def test_a_click_or_a_key_sorts_a_table_by_value(browser):
    table, strength, error = "means-digits-mlp-depth-3-batch-norm", 2, 8
    heading = f"document.querySelectorAll('#{table} table.sortable th')[{error}]"
    before = browser.evaluate(COLUMN.format(table=table, n=error))
    browser.evaluate(f"{heading}.querySelector('button').click()")
    ascending = [float(text.split()[0]) for text in browser.evaluate(COLUMN.format(table=table, n=error))]
    assert ascending == sorted(ascending)
    assert len(ascending) == len(before)
    assert browser.evaluate(f"{heading}.getAttribute('aria-sort')") == "ascending"
    browser.evaluate(f"{heading}.querySelector('button').focus()")
    press_enter(browser)
    descending = [float(text.split()[0]) for text in browser.evaluate(COLUMN.format(table=table, n=error))]
    assert descending == sorted(ascending, reverse=True)
    browser.evaluate(f"document.querySelectorAll('#{table} table.sortable th button')[{strength}].click()")
    assert browser.evaluate("document.querySelectorAll('[aria-sort]').length") == 1


def test_the_links_under_a_figure_lead_to_files_beside_the_page(browser, page):
    links = "[...document.querySelectorAll('figcaption .files a')].map(a => decodeURI(a.href))"
    files = [Path(link.removeprefix("file://")) for link in browser.evaluate(links)]
    figures = browser.evaluate("document.querySelectorAll('figure').length")
    assert len(files) == 4 * figures > 0
    assert {file.suffix for file in files} == {".png", ".svg", ".pdf", ".csv"}
    assert all(file.is_file() and page.parent in file.parents for file in files)
    seen = "[...document.querySelectorAll('.files a')].every(a => a.getBoundingClientRect().height > 10)"
    assert browser.evaluate(seen)


@pytest.mark.parametrize("width", [400, 320, 800, 1280, 1600])
def test_nothing_overflows_the_window(browser, width):
    browser.resize(width)
    browser.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    outside = (
        "[...document.querySelectorAll('main *, header *')].filter(one => !one.closest('.wide') && "
        f"one.getBoundingClientRect().right > {width} + 1).map(one => one.outerHTML.slice(0, 80))"
    )
    assert browser.evaluate(outside) == []


def test_what_is_wider_than_a_phone_says_that_it_scrolls(browser):
    hint = "getComputedStyle(document.querySelector('#{}').querySelector('.wide'), '::before').content"
    table = "means-digits-mlp-depth-3-batch-norm"
    for width, shown in ((400, True), (1600, False)):
        browser.resize(width)
        browser.evaluate("new Promise(done => setTimeout(done, 100))")
        for place in ("core", table):
            assert ("scroll sideways" in browser.evaluate(hint.format(place))) is shown, (width, place)
    assert browser.messages == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_the_page_by_day_and_by_night(browser, scheme):
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    pairs = browser.evaluate(COLOURS)
    assert len(pairs) > 100
    faint = [pair for pair in pairs if contrast(*pair[:2]) < 4.5]
    assert faint == []
    dark = contrast("rgb(0, 0, 0)", pairs[0][1]) < 3
    assert dark == (scheme == "dark")


def contrast(first: str, second: str) -> float:
    """The contrast of two colours by WCAG, 1 to 21; 4.5 is asked of text."""
    brightness = []
    for colour in (first, second):
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        brightness.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(brightness) + 0.05) / (min(brightness) + 0.05)


def test_it_prints_on_a_few_sheets_with_every_figure(browser, tmp_path):
    browser.resize(1200)
    browser.evaluate("document.querySelectorAll('details').forEach(details => details.open = false)")
    browser.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert browser.evaluate("[...document.querySelectorAll('details')].every(details => details.open)")
    browser.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not browser.evaluate("[...document.querySelectorAll('details')].some(details => details.open)")
    browser.pdf(tmp_path / "page.pdf")
    content = (tmp_path / "page.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert 4 <= content.count(b"/Type /Page\n") <= 25


def test_a_figure_is_made_of_lines_not_of_dots(browser):
    assert browser.evaluate("[...document.images].every(image => image.src.startsWith('data:image/svg+xml'))")
