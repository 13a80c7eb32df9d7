"""The report in a real browser: every click, both themes, the width of a phone and of a desk, no network."""

import os
import shutil

import pytest

from star_hf.report.samples import KEPT


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
CUT = """chart => {
  const frame = chart.getBoundingClientRect();
  const isCut = (box) => box.top < frame.top - 1 || box.bottom > frame.bottom + 1 || box.left < frame.left - 1;
  const labels = [...chart.querySelectorAll(".xtick text, .ytick text")];
  return labels.filter((label) => isCut(label.getBoundingClientRect())).map((label) => label.textContent);
}"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (apt install chromium)"),
]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
        yield launched
        launched.close()


@pytest.fixture
def show(browser, page):
    """Opens the report and at the end checks that nothing went wrong and nothing was asked for."""
    opened, problems = [], []

    def open_it(width=1280, scheme="light", height=900, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **options)
        tab = context.new_page()
        tab.on("console", lambda message: problems.append(f"console: {message.text}"))
        tab.on("pageerror", lambda error: problems.append(f"error: {error}"))
        tab.on("request", lambda request: problems.append(request.url) if elsewhere(request.url) else None)
        tab.on("dialog", lambda dialog: (problems.append("dialog"), dialog.dismiss()))
        tab.goto(page.as_uri())
        opened.append((context, tab))
        return tab

    yield open_it
    broken = [tab.evaluate("window.broken") for context, tab in opened if context.browser.is_connected()]
    for context, _ in opened:
        context.close()
    assert not problems
    assert broken == [None] * len(opened), "a row's text was taken for code"


def elsewhere(url: str) -> bool:
    return not url.startswith(("file:", "data:", "blob:"))


def draw_all(tab) -> None:
    """Scroll through the page, so that each picture that can be seen is drawn."""
    for chart in tab.locator(".chart").all():
        if chart.is_visible():
            chart.scroll_into_view_if_needed()
            chart.locator("svg.main-svg").first.wait_for()
            assert chart.evaluate(CUT) == [], "labels that the edge of their picture cuts"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_the_window_and_draws_every_picture(show, width, scheme):
    tab = show(width, scheme)
    draw_all(tab)
    for summary in tab.locator("details:not([open]) > summary").all():
        if summary.is_visible():
            summary.click()
    tab.get_by_label("Show all texts").check()
    tab.locator(".card .said").first.wait_for()
    assert tab.evaluate("document.documentElement.scrollWidth") == width, "the page scrolls sideways"
    if folder := os.environ.get("STAR_HF_SCREENSHOTS"):
        tab.screenshot(path=f"{folder}/report-{width}-{scheme}.png", full_page=True)


def test_a_text_is_hidden_until_it_is_asked_for(show, run):
    tab = show()
    asked = run.table("collect")["question"]
    assert not any(question in tab.inner_text("body") for question in asked)
    card = tab.locator(".card").first
    button = card.get_by_role("button")
    assert button.get_attribute("aria-expanded") == "false" and card.locator(".said").count() == 0
    button.click()
    assert card.locator(".question").inner_text() in set(run.table("select")["question"])
    assert button.get_attribute("aria-expanded") == "true"
    button.click()
    assert not card.locator(".question").is_visible()


def test_hostile_texts_are_shown_as_they_are(show, run):
    tab = show()
    tab.get_by_label("Show all texts").check()
    tab.get_by_label("Id or words").fill("What about")
    tab.locator("#found", has_text="shown").wait_for()
    tab.wait_for_timeout(300)
    shown = " ".join(tab.locator(".card .question").all_text_contents())
    assert "</script><script>window.broken = 1</script>" in shown and "<img src=x onerror" in shown
    assert tab.locator(".card img, .card script, .card b, .card svg, .card a").count() == 0
    assert "{{ 7 * 7 }}" in shown


def test_samples_can_be_filtered(show, run):
    tab = show()
    found = tab.locator("#found")
    tab.get_by_role("combobox", name="Outcome").select_option(KEPT)
    kept = len(run.table("select"))
    found.get_by_text(f"of {kept} shown").wait_for()
    tab.get_by_role("combobox", name="Source").select_option("set-1")
    expected = sum(source == "set-1" for source in run.table("select")["source"])
    found.get_by_text(f"{expected} of {expected} shown").wait_for()
    tab.get_by_role("combobox", name="Outcome").select_option("select: below_full_marks")
    tab.get_by_role("combobox", name="Lowest mark").select_option("8")
    tab.wait_for_timeout(300)
    assert set(tab.locator(".card .outcome").all_inner_texts()) == {"select: below full marks"}
    tab.get_by_label("Id or words").fill("no such words anywhere")
    found.get_by_text("No sample matches").wait_for()
    row_id = run.table("select")[0]["id"]
    for name in ("Outcome", "Source", "Lowest mark"):
        tab.get_by_role("combobox", name=name).select_option("")
    tab.get_by_label("Id or words").fill(row_id)
    tab.locator(".card", has_text=row_id).first.wait_for()


def test_more_samples_come_when_asked_for(show):
    tab = show()
    assert tab.locator(".card").count() == 20
    tab.get_by_role("button", name="Show more").click()
    assert tab.locator(".card").count() == 40


def test_the_theme_can_be_switched_and_pictures_follow(show):
    tab = show(scheme="light")
    draw_all(tab)
    ground = "getComputedStyle(document.body).backgroundColor"
    label = "getComputedStyle(document.querySelector('.chart .xtick text')).fill"
    before = tab.evaluate(ground), tab.evaluate(label)
    tab.get_by_role("button", name="Switch between light and dark").click()
    tab.wait_for_function(f"{label} !== '{before[1]}'")
    assert tab.evaluate(ground) != before[0]
    tab.reload()
    assert tab.evaluate(ground) != before[0], "the choice is kept"
    tab.emulate_media(color_scheme="dark")
    tab.get_by_role("button", name="Switch between light and dark").click()
    assert tab.evaluate(ground) == before[0], "the button wins over the system"


def test_the_keyboard_reaches_everything(show):
    tab = show()
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the report"
    reached = set()
    for _ in range(80):
        tab.keyboard.press("Tab")
        reached.add(
            tab.evaluate(
                "document.activeElement.id || document.activeElement.name || document.activeElement.textContent"
            )
        )
    assert {"theme", "outcome", "category", "source", "mark", "words", "reveal", "Show text"} <= reached


def test_it_prints_in_light_without_its_controls(show):
    tab = show(scheme="dark")
    tab.emulate_media(media="print", color_scheme="dark")
    assert not tab.locator("header.bar").is_visible() and not tab.locator("#filters").is_visible()
    ground = tab.evaluate("getComputedStyle(document.querySelector('.panel')).backgroundColor")
    assert ground == "rgb(255, 255, 254)"
    assert tab.pdf().startswith(b"%PDF")


def test_nothing_moves_for_those_who_asked_for_that(show):
    tab = show(reduced_motion="reduce")
    assert tab.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"


def test_tables_can_be_read_without_javascript(show):
    tab = show(java_script_enabled=False)
    assert tab.locator("noscript p").is_visible() and not tab.locator("#filters").is_visible()
    assert tab.locator(".stages li").count() > 5
