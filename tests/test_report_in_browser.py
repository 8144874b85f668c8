"""The report in headless Chromium: swipe, band slider, click and keys work, nothing is loaded, nothing is out of reach."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from PIL import Image

from geofuse.report import write_report
from geofuse.scene import BandMetadata, make_scene

pytestmark = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")), reason="needs Debian's chromium and chromium-driver"
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
    "--hide-scrollbars",
)
KEYS = {"Tab": "\ue004", "Left": "\ue012", "Up": "\ue013", "Right": "\ue014", "Down": "\ue015"}
NM = np.linspace(450, 1000, 12)
SIDE, RATIO = 32, 4


class Browser:
    """One window, driven through ChromeDriver; a context manager."""

    def __init__(self, folder: Path, width: int, height: int) -> None:
        self.folder, self.size = folder, (width, height)

    def __enter__(self) -> Browser:
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        line = next(line for line in self.driver.stdout if "successfully on port" in line)
        self.base = f"http://127.0.0.1:{line.rsplit('port ', 1)[1].strip().rstrip('.')}"
        flags = [*FLAGS, "--window-size={},{}".format(*self.size), f"--user-data-dir={self.folder}"]
        options = {"binary": shutil.which("chromium"), "args": flags}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        session = self.call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.base += f"/session/{session['sessionId']}"
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.call("DELETE", "")
        finally:
            self.driver.terminate()
            self.driver.wait(10)

    def call(self, method: str, path: str, body: dict | None = None):
        data = json.dumps(body or {}).encode() if method == "POST" else None
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from None

    def open(self, path: Path) -> None:
        self.call("POST", "/url", {"url": path.resolve().as_uri()})
        self.until("return document.querySelector('#pixel').textContent !== ''")

    def run(self, script: str, *arguments):
        return self.call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def until(self, script: str) -> None:
        for _ in range(100):
            if self.run(script):
                return
            time.sleep(0.05)
        raise AssertionError(f"never true: {script}")

    def click(self, selector: str, x: float = 0.5, y: float = 0.5) -> None:
        """Click an element at shares of its width and height."""
        script = """const e = document.querySelector(arguments[0]);
            e.scrollIntoView({block: 'center'});
            const b = e.getBoundingClientRect();
            return [b.x, b.y, b.width, b.height]"""
        left, top, width, height = self.run(script, selector)
        at = {"type": "pointerMove", "duration": 0, "x": round(left + x * width), "y": round(top + y * height)}
        actions = [at, {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        self.call("POST", "/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": actions}]})

    def press(self, *keys: str) -> None:
        """Press keys one after the other, on what has the focus."""
        actions = [{"type": kind, "value": KEYS[key]} for key in keys for kind in ("keyDown", "keyUp")]
        self.call("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def text(self, selector: str) -> str:
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def focus(self, selector: str) -> None:
        self.run("document.querySelector(arguments[0]).focus()", selector)

    def colour(self, x: float, y: float) -> tuple[int, ...]:
        """Return the colour that the scene shows at shares of its width and height."""
        self.run("return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        script = "const c = document.querySelector('#scene'); return [c.toDataURL('image/png'), c.width, c.height]"
        url, width, height = self.run(script)
        image = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))
        return tuple(int(v) for v in image[min(int(y * height), height - 1), min(int(x * width), width - 1)])

    def log(self, kind: str) -> list[dict]:
        return self.call("POST", "/se/log", {"type": kind})


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page of a bright fused image, a dark HSI, and a reference; the last rows of the fused image have no data."""
    rng = np.random.default_rng(3)
    ramp = np.linspace(0.5, 0.9, 12)[:, None, None]
    fused = ramp + rng.uniform(0, 0.01, (12, SIDE, SIDE))
    fused[:, 28:] = np.nan
    truth = ramp + rng.uniform(0, 0.01, fused.shape)
    hsi = ramp - 0.45 + rng.uniform(0, 0.01, (12, SIDE // RATIO, SIDE // RATIO))
    grid = Affine(10, 0, 300000, 0, -10, 5800000)
    coarse = Affine(40, 0, 300000, 0, -40, 5800000)
    bands = BandMetadata(NM, np.full(12, 20.0), np.ones(12, bool), tuple(f"band {i}" for i in range(12)))
    scenes = [make_scene(a.astype(np.float32), bands, t, "EPSG:32633") for a, t in ((fused, grid), (truth, grid), (hsi, coarse))]
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(scenes[0], path, scenes[1], scenes[2])
    return path


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile"), 1280, 900) as browser:
        yield browser


@pytest.fixture
def browser(window, page):
    window.open(page)
    return window


def test_the_page_loads_nothing_and_reports_no_error(browser, page):
    browser.log("performance")  # what came before is no concern
    browser.open(page)
    browser.click("input[value=band]")
    assert [entry for entry in browser.log("browser") if entry["level"] == "SEVERE"] == []
    events = [json.loads(entry["message"])["message"] for entry in browser.log("performance")]
    asked = {e["params"]["request"]["url"][:40] for e in events if e["method"] == "Network.requestWillBeSent"}
    assert {url.partition(":")[0] for url in asked} == {"file", "data"}


def test_the_swipe_bar_divides_left_and_right_image_and_obeys_the_arrow_keys(browser):
    time.sleep(0.3)  # pictures are decoded
    dark, bright = browser.colour(0.4, 0.2), browser.colour(0.6, 0.2)
    assert max(dark[:3]) < 100 < min(bright[:3]) and dark[3] == bright[3] == 255
    browser.focus("#swipe")
    browser.press(*["Left"] * 20)
    assert min(browser.colour(0.4, 0.2)[:3]) > 100
    assert browser.run("return document.querySelector('#swipe').getAttribute('aria-valuetext')") == "30 % HSI, the rest Fused"


def test_no_data_lets_the_hatching_through(browser):
    time.sleep(0.3)
    assert browser.colour(0.9, 0.95)[3] == 0 and browser.colour(0.9, 0.5)[3] == 255


def test_a_click_chooses_the_pixel_under_it_and_shows_its_spectra(browser):
    browser.click("#stage", (9 + 0.5) / SIDE, (21 + 0.5) / SIDE)
    assert browser.text("#pixel") == "Row 21, column 9 · x 300095.0, y 5799785.0 (EPSG:32633)"
    assert browser.text("#pixel-error").startswith("Fused against reference here: RMSE 0.00")
    browser.click("#values summary")
    browser.until("return document.querySelectorAll('#values tbody tr').length === 12")
    last = "return [...document.querySelectorAll('#values tbody tr:last-child > *')].map((c) => Number(c.textContent))"
    cells = browser.run(last)
    assert cells[0] == 1000 and cells[1] == pytest.approx(0.455, abs=0.01) and cells[2] == pytest.approx(0.905, abs=0.01)


def test_arrow_keys_move_the_pixel_and_stop_at_the_border(browser):
    browser.click("#stage", 1.5 / SIDE, 5.5 / SIDE)
    browser.focus("#stage")
    browser.press("Down", "Right", "Right", "Up", "Up")
    assert browser.text("#pixel").startswith("Row 4, column 3 ")
    browser.press(*["Left"] * 5)
    assert browser.text("#pixel").startswith("Row 4, column 0 ")


def test_a_pixel_without_data_says_so(browser):
    browser.click("#stage", 0.9, 30.5 / SIDE)
    assert browser.text("#pixel").endswith("no data here")
    assert browser.text("#pixel-error") == ""


def test_the_slider_shows_any_band(browser):
    browser.click("input[value=band]")
    browser.focus("#band")
    start = int(browser.run("return document.querySelector('#band').value"))
    browser.press("Right", "Right")
    assert browser.text("#band-name") == f"{start + 3} · {NM[start + 2]:.1f} nm"
    assert f"Band {start + 3}, {NM[start + 2]:.1f} nm: black " in browser.text("#view-caption")
    time.sleep(0.3)
    assert len(set(browser.colour(0.75, 0.3)[:3])) == 1  # grey


def test_everything_can_be_reached_by_tab_and_shows_its_focus(browser):
    browser.run("document.activeElement.blur()")
    reached = []
    for _ in range(14):
        browser.press("Tab")
        where = "const e = document.activeElement; const s = getComputedStyle(e.type === 'radio' ? e.nextElementSibling : e);"
        reached.append(browser.run(where + "return [e.id || e.name || e.tagName, s.outlineStyle, parseFloat(s.outlineWidth)]"))
    controls = ["view", "left", "right", "stage", "swipe", "map"]
    assert list(dict.fromkeys(name for name, *_ in reached if name in controls)) == controls
    assert all(style != "none" and width >= 2 for name, style, width in reached if name not in ("swipe", "BODY")), reached


def test_every_control_has_a_name_and_no_id_is_used_twice(browser):
    unnamed = """return [...document.querySelectorAll('input, select, [role=application], [role=img], canvas')]
        .filter((e) => !e.closest('[aria-hidden], [role=img] *'))
        .filter((e) => !(e.labels && e.labels.length) && !e.getAttribute('aria-label')).map((e) => e.outerHTML)"""
    assert browser.run(unnamed) == []
    ids = browser.run("return [...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))
    assert browser.run("return document.documentElement.lang") == "en"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser, scheme):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.call("POST", "/goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": {"features": features}})
    names = ["--page", "--panel", "--text", "--quiet", "--accent", "--on-accent", "--hsi", "--msi", "--fused", "--reference"]
    script = "const s = getComputedStyle(document.documentElement); return arguments[0].map((n) => s.getPropertyValue(n).trim())"
    colours = dict(zip(names, browser.run(script, names), strict=True))
    for ground in ("--page", "--panel"):
        for text in ("--text", "--quiet", "--accent", "--hsi", "--msi", "--fused", "--reference"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    assert contrast(colours["--on-accent"], colours["--accent"]) >= 4.5


def contrast(first: str, second: str) -> float:
    """Return the contrast ratio of two #rrggbb colours (WCAG 2.2)."""

    def luminance(colour: str) -> float:
        channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    bright, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_the_page_fits_a_telephone_without_scrolling_sideways(browser):
    screen = {"width": 400, "height": 800, "deviceScaleFactor": 2, "mobile": True}
    browser.call("POST", "/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": screen})
    try:
        browser.until("return document.documentElement.clientWidth === 400")
        assert browser.run("return document.documentElement.scrollWidth") == 400
        browser.until("return document.querySelector('#spectrum-chart canvas').getBoundingClientRect().right <= 400")
    finally:
        browser.call("POST", "/goog/cdp/execute", {"cmd": "Emulation.clearDeviceMetricsOverride", "params": {}})
