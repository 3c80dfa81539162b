"""The demo in a real browser: translations, drafts, hostile text, a phone, and contrast.

It needs `chromium` and `chromedriver`, for instance Debian's packages chromium and chromium-driver.
With HF_NAR_SCREENSHOT it writes the README's picture there.
"""

import os
import shutil
from pathlib import Path

import pytest
from demo_server import STUDENT, TEACHER, hf_nar_demo, running
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = pytest.mark.slow

SENTENCE = "Ein Mädchen in einem Karateanzug bricht ein Brett mit einem Tritt."
HOSTILE = (
    "<script>window.hacked = 1</script> ${7*7} {{value}} <img src=x onerror=hacked=1> \u202eabc"
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-prefers-reduced-motion",
    "--hide-scrollbars",
)
PATIENCE = 120  # seconds
BIGGEST_PICTURE = 300_000  # bytes
# The lowest contrast between a text and what is behind it, and that text.
CONTRAST = """
const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
const over = (colours) => {
  canvas.clearRect(0, 0, 1, 1);
  for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
  return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
};
const light = (rgb) => {
  const [r, g, b] = rgb.map((v) => {
    v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
let worst = [99, ""];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const parent = walker.currentNode.parentElement;
  const text = walker.currentNode.textContent.trim();
  if (!text || !parent.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
  if (["SCRIPT", "STYLE"].includes(parent.tagName) || parent.closest(".sr-only")) continue;
  const behind = [];
  for (let e = parent; e; e = e.parentElement) behind.unshift(getComputedStyle(e).backgroundColor);
  const [a, b] = [light(over(["white", ...behind])),
                  light(over(["white", ...behind, getComputedStyle(parent).color]))];
  const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (contrast < worst[0]) worst = [contrast, text];
}
return worst;
"""


@pytest.fixture(scope="module")
def demo():
    """Return a running demo of the model in this repository, with its teacher."""
    with running(hf_nar_demo(STUDENT, "--teacher", TEACHER)) as server:
        yield server


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Return a headless Chromium with a profile of its own."""
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    missing = [name for name, program in programs.items() if program is None]
    if missing:
        message = f"needs {' and '.join(missing)}: apt-get install chromium chromium-driver"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    options = webdriver.ChromeOptions()
    options.binary_location = programs["chromium"]
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(programs["chromedriver"]))
    yield driver
    driver.quit()


class Page:
    """The demo as someone sees it who has the browser in front of them."""

    def __init__(self, browser, url, width=1280, height=860, dark=False):
        self.browser = browser
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(url)
        self.wait_for("textarea")

    def wait_for(self, css):
        """Return what is at a place, as soon as it is there."""
        return WebDriverWait(self.browser, PATIENCE).until(
            lambda browser: browser.find_elements(By.CSS_SELECTOR, css), f"no {css}"
        )

    def translate(self, text):
        """Type a text, press Enter, and wait for what belongs to it."""
        box = self.wait_for("textarea")[0]
        box.send_keys(text, Keys.ENTER)
        self.wait_for(".answer, .note")
        self.wait_for("#result .wrap.hide")

    def texts(self, css):
        """Return the texts at a place."""
        return [found.text for found in self.browser.find_elements(By.CSS_SELECTOR, css)]


def test_a_german_sentence_becomes_english_draft_by_draft(browser, demo, tmp_path):
    page = Page(browser, demo.url)

    page.translate(SENTENCE)

    [translation] = page.texts(".translation")
    drafts = page.texts(".drafts li p")
    assert translation.startswith("A girl in a karate uniform is ")
    assert len(drafts) >= 2
    assert len(set(drafts)) >= 2
    assert len(page.texts(".drafts mark")) >= 1
    assert len(page.texts(".time")) == 2
    assert page.texts(".teacher")[0].startswith("A girl in a karate uniform is ")
    picture = Path(os.environ.get("HF_NAR_SCREENSHOT", tmp_path / "demo.png"))
    assert browser.save_screenshot(str(picture))
    assert 10_000 < picture.stat().st_size < BIGGEST_PICTURE


def test_hostile_text_shows_as_text(browser, demo):
    page = Page(browser, demo.url)

    page.translate(HOSTILE)

    assert page.texts(".answer p[lang=de]") == [HOSTILE]
    assert browser.execute_script("return window.hacked") is None
    inside = "return document.querySelectorAll('.answer script, .answer img').length"
    assert browser.execute_script(inside) == 0


def test_an_example_is_translated_by_the_keyboard_alone(browser, demo):
    page = Page(browser, demo.url)
    example = page.wait_for("#choose button.sm")[0]
    focused = None
    for _ in range(10):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        focused = browser.switch_to.active_element
        if focused == example:
            break

    focused.send_keys(Keys.ENTER)
    page.wait_for(".answer")

    assert focused == example
    assert page.texts(".answer p[lang=de]") == [example.text]


@pytest.mark.parametrize("width", [320, 400])
def test_on_a_phone_nothing_runs_out_at_the_side(browser, demo, width):
    page = Page(browser, demo.url, width=width, height=700)

    page.translate(SENTENCE)

    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    below = "return document.querySelector(arguments[0]).getBoundingClientRect().top"
    top = {place: browser.execute_script(below, place) for place in ("#ask", "#result", "#choose")}
    assert top["#ask"] < top["#result"] < top["#choose"]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_can_be_read(browser, demo, dark):
    page = Page(browser, demo.url, dark=dark)

    page.translate(SENTENCE + " 漢")
    for closed in ("#choose .label-wrap", ".answer summary"):
        page.wait_for(closed)[0].click()

    contrast, text = browser.execute_script(CONTRAST)
    assert len(page.texts(".note")) == 1
    assert contrast >= 4.5, f"{text!r} has a contrast of {contrast:.2f}"


def test_every_control_has_a_name(browser, demo):
    page = Page(browser, demo.url)
    page.wait_for("#choose .label-wrap")[0].click()

    controls = page.wait_for("textarea, input, button")
    shown = [control for control in controls if control.is_displayed()]
    assert len(shown) > 8
    assert [c.get_attribute("outerHTML") for c in shown if not c.accessible_name] == []


def test_the_page_loads_nothing_from_elsewhere_and_complains_of_nothing(browser, demo):
    browser.get_log("browser")  # of the tests before
    page = Page(browser, demo.url)

    page.translate(SENTENCE)

    script = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    loaded = browser.execute_script(script)
    assert len(loaded) > 5
    assert [name for name in loaded if not name.startswith((demo.url, "data:"))] == []
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
