"""The page of a service of two models in a browser, with a real portrait: answers, decisions, faults, keys,
the clipboard; nothing cut, pale or asked of another host, on a desk and on a phone, light and dark.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from chromium import Page, browser_here, chromium

from agesearch.ages import gaussian_pmf
from agesearch.data.images.recipe import open_recorded
from agesearch.models.manifest import ModelManifest
from agesearch.serving.auth import TokenCheck
from agesearch.serving.estimator import AgeEstimator
from agesearch.serving.faces import FaceService
from agesearch.serving.images import ImageLimits
from agesearch.serving.ingress.config import Route
from agesearch.serving.ingress.supervisor import Ingress
from agesearch.serving.ports import bound
from agesearch.serving.replica import ReplicaServer
from agesearch.serving.rollout.state import ServedVersion, ServiceState
from agesearch.serving.web.routes import create_app
from agesearch.session import LOOPBACK
from agesearch.specs import CropSpec, ModelSpec

FAULTS = (Path(__file__).resolve().parents[1] / "page_faults.js").read_text(encoding="utf-8")
TOKEN = "a-token-of-enough-length"
MANIFEST = ModelManifest(
    kind="version",
    model=ModelSpec(arch="lcnet_035", input_size=48),
    crop=CropSpec(size=48),
    metrics={"val_mae_years": 4.25},
    version=3,
)
SECOND = "of-another-kind"
#: The models by name, and by how many years each takes a face for older than the first does.
OLDER = {"portraits": 0.0, SECOND: 20.0}


class Brightness:
    """Predicts the mean brightness of a crop in percent, with a spread of five years."""

    input_size = 48

    def __init__(self, older: float) -> None:
        self._older = older

    def pmf(self, images: object) -> object:
        ages = [float(np.mean(image)) / 2.55 + self._older for image in images]
        return gaussian_pmf(ages, [5.0] * len(ages)) if ages else np.empty((0, 101), np.float32)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A service of both models, each a replica behind the ingress."""
    browser_here()
    listener = bound(LOOPBACK, 0)
    port = listener.getsockname()[1]
    with Ingress(listener, routes=[Route(name, name) for name in OLDER]) as ingress:
        served = [ServedVersion(name=name, version="0003", group=name) for name in OLDER]
        ServiceState(models=tuple(served)).write(ingress.folder)
        replicas = [replica(name, ingress.folder / name) for name in OLDER]
        for name in OLDER:
            ingress.wait_for(1, 60, name)
        yield f"http://{LOOPBACK}:{port}/"
        for one in replicas:
            one.drain()


def replica(name: str, group: Path) -> ReplicaServer:
    manifest = MANIFEST.model_copy(update={"name": name})
    detector, _ = open_recorded(manifest.crop)
    estimator = AgeEstimator(manifest, Brightness(OLDER[name]), detector)
    service = FaceService(estimator, ImageLimits(), f"# The card of {name}\n<b>")
    group.mkdir()
    return ReplicaServer(create_app(service, TokenCheck(TOKEN), ImageLimits(), group), group, "a")


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture(scope="module")
def portrait(shared: Path) -> Path:
    return shared / "photos" / "images" / "A000022.jpg"


def give_key(tab: Page, key: str = TOKEN) -> None:
    tab.evaluate("document.getElementById('key').focus()")
    tab.call("Input.insertText", text=key)
    tab.press("Tab")


def said(tab: Page, element: str) -> str:
    return str(tab.evaluate(f"document.getElementById('{element}').textContent"))


def ask(tab: Page, portrait: Path) -> None:
    tab.give_file("#file", portrait)
    tab.wait("!document.getElementById('shown').hidden && !!document.querySelector('#boxes span')")


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, False), (1280, True), (390, True)])
def test_a_portrait_gets_an_age_a_decision_and_the_card(
    url: str, tab: Page, portrait: Path, width: int, dark: bool, tmp_path: Path
) -> None:
    tab.open(url, width, dark=dark, touch=width < 600)
    give_key(tab)
    tab.wait("!document.getElementById('about').hidden && !document.getElementById('card').hidden")
    assert "4.25 years" in said(tab, "facts")
    assert said(tab, "card-text") == "# The card of portraits\n<b>"
    tab.evaluate("(one => { one.value = '25'; })(document.getElementById('challenge'))")
    ask(tab, portrait)
    assert "One face" in said(tab, "status")
    assert "Its own range" in said(tab, "faces")
    assert "25" in str(tab.evaluate("document.querySelector('.decision').textContent"))
    assert "There and back" in said(tab, "times")
    tab.evaluate("(one => { one.open = true; })(document.getElementById('card'))")
    assert tab.evaluate(FAULTS) == []
    assert [told for told in tab.complaints if not told.startswith(f"asked for {url}")] == []
    box, image = tab.evaluate(
        "['#boxes span', '#seen'].map((name) => (b => [b.left, b.top, b.right, b.bottom])"
        "(document.querySelector(name).getBoundingClientRect()))"
    )
    assert image[0] <= box[0] < box[2] <= image[2]
    assert image[1] <= box[1] < box[3] <= image[3]
    tab.screenshot(tmp_path / "page.png")


def test_what_goes_wrong_is_said(url: str, tab: Page, portrait: Path, tmp_path: Path) -> None:
    tab.open(url, 1280)
    tab.give_file("#file", portrait)
    tab.wait("document.getElementById('status').classList.contains('failed')")
    assert "token or key" in said(tab, "status")
    give_key(tab, "a-wrong-token-of-length")
    tab.wait("document.getElementById('status').textContent.includes('wrong')")
    tab.evaluate("document.getElementById('key').value = ''")
    give_key(tab)
    tab.wait("!document.getElementById('shown').hidden")  # the picture is asked about again by itself
    none = tmp_path / "none.jpg"
    none.write_bytes(b"no image")
    tab.give_file("#file", none)
    tab.wait("document.getElementById('shown').hidden")
    assert "image" in said(tab, "status")


def test_a_key_is_in_no_storage_and_a_picture_may_be_pasted(url: str, tab: Page, portrait: Path) -> None:
    tab.open(url, 1280)
    give_key(tab)
    tab.wait("!document.getElementById('about').hidden")
    kept = "JSON.stringify([Object.entries(localStorage), Object.entries(sessionStorage), document.cookie])"
    assert tab.evaluate(kept) == '[[],[],""]'
    tab.evaluate(
        """(async () => {
          const canvas = document.createElement("canvas");
          canvas.width = canvas.height = 64;
          canvas.getContext("2d").fillRect(0, 0, 64, 64);
          const blob = await new Promise((done) => canvas.toBlob(done));
          const data = new DataTransfer();
          data.items.add(new File([blob], "a.png", { type: "image/png" }));
          document.getElementById("whole").click();
          document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data }));
        })()"""
    )
    tab.wait("!!document.querySelector('#boxes span')")
    assert age(tab) < 10  # black
    tab.open(url, 1280)
    assert tab.evaluate("document.getElementById('key').value") == ""


def age(tab: Page) -> float:
    return float(said(tab, "faces").split(" years")[0])


def test_another_model_is_chosen_with_the_keyboard_alone(url: str, tab: Page, portrait: Path) -> None:
    tab.open(url, 390, dark=True)
    tab.press("Tab")  # to the address of the calls
    tab.press("Tab")
    tab.call("Input.insertText", text=TOKEN)
    tab.press("Tab")
    tab.wait(
        "document.getElementById('model').options.length === 2 && !document.getElementById('card').hidden"
    )
    ask(tab, portrait)
    before = age(tab)
    tab.evaluate("document.getElementById('key').focus()")
    tab.press("Tab")
    tab.press("ArrowDown")
    tab.wait("document.getElementById('facts').textContent.includes('of-another-kind')")
    tab.wait(f"Math.abs(parseFloat(document.getElementById('faces').textContent) - {before + 20}) < 1")
    assert said(tab, "card-text").startswith(f"# The card of {SECOND}")
    assert tab.evaluate("document.activeElement.id") == "model"
    assert tab.evaluate(FAULTS) == []


def test_everything_is_named_and_comes_by_keys(url: str, tab: Page, portrait: Path) -> None:
    tab.open(url, 1280)
    give_key(tab)
    tab.wait("!document.getElementById('card').hidden")
    ask(tab, portrait)
    unnamed = """[...document.querySelectorAll("input, select, button, img, section")].filter((one) =>
      one.getClientRects().length && !one.labels?.length && !one.ariaLabel && !one.alt
      && !one.textContent.trim()).map((one) => one.outerHTML)"""
    assert tab.evaluate(unnamed) == []
    seen: list[str] = []
    tab.evaluate("document.querySelector('a').focus()")
    for _ in range(9):
        tab.press("Tab")
        seen.append(str(tab.evaluate("document.activeElement.id || document.activeElement.tagName")))
    assert [name for name in seen if name in ("key", "model", "challenge", "whole", "file")] == [
        "key",
        "model",
        "challenge",
        "whole",
        "file",
    ]
    assert "SUMMARY" in seen


def test_the_calls_are_documented(url: str, tab: Page) -> None:
    tab.open(f"{url}docs", 390, touch=True)
    tab.wait("!!document.querySelector('#calls table')")
    assert tab.evaluate(FAULTS) == []
    assert "/v1/predict" in said(tab, "calls")
