"""The report in a real browser: what it shows, on a desk, on a phone and on paper."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.claims import CLAIMS, QUESTIONS
from analysis.report import write_report
from tests.analysis import synthetic
from tests.analysis.browser import Browser, needs_browser

pytestmark = needs_browser
COLUMN = "[...document.querySelector('#{table} .sortable tbody').rows].map(row => row.cells[{n}].innerText)"


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


def test_the_verdicts_come_first_and_their_links_lead_to_figures(browser):
    assert browser.evaluate("document.querySelector('main').firstElementChild.id") == "verdicts"
    rows = "document.querySelectorAll('table.verdicts tbody tr[id]').length"
    assert browser.evaluate(rows) == len(CLAIMS) + len(QUESTIONS)
    linked = (
        "[...document.querySelectorAll('.verdicts a')].map(a => document.getElementById(a.hash.slice(1)))"
    )
    assert browser.evaluate(f"{linked}.length") >= 8
    assert browser.evaluate(
        f"{linked}.every(place => place && place.querySelector('img').naturalWidth > 100)"
    )


def test_a_click_or_a_key_sorts_a_table_by_value(browser):
    table, strength, error = "digits-mlp-depth-3-batch-norm", 2, 8
    heading = f"document.querySelectorAll('#{table} table.sortable th')[{error}]"
    before = browser.evaluate(COLUMN.format(table=table, n=error))
    browser.evaluate(f"{heading}.querySelector('button').click()")
    ascending = [float(text.split()[0]) for text in browser.evaluate(COLUMN.format(table=table, n=error))]
    assert ascending == sorted(ascending)
    assert len(ascending) == len(before)
    assert browser.evaluate(f"{heading}.getAttribute('aria-sort')") == "ascending"
    browser.evaluate(f"{heading}.querySelector('button').focus()")
    for kind in ("keyDown", "keyUp"):
        browser.call(
            "Input.dispatchKeyEvent",
            type=kind,
            key="Enter",
            code="Enter",
            windowsVirtualKeyCode=13,
            text="\r",
        )
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


@pytest.mark.parametrize("width", [400, 320, 800, 1600])
def test_nothing_overflows_the_window(browser, width):
    browser.resize(width)
    browser.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    outside = (
        "[...document.querySelectorAll('main *, header *')].filter(one => !one.closest('.wide') && "
        f"one.getBoundingClientRect().right > {width} + 1).map(one => one.outerHTML.slice(0, 80))"
    )
    assert browser.evaluate(outside) == []


def test_it_prints_on_a_few_sheets_with_every_figure(browser, tmp_path):
    browser.resize(1200)
    browser.pdf(tmp_path / "page.pdf")
    content = (tmp_path / "page.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert 4 <= content.count(b"/Type /Page\n") <= 25


def test_a_figure_is_made_of_lines_not_of_dots(browser):
    assert browser.evaluate("[...document.images].every(image => image.src.startsWith('data:image/svg+xml'))")
