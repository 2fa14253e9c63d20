"""Pretrained weights without a network: one line within seconds, which names the flag."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from agesearch.errors import InputError
from agesearch.models import weights
from agesearch.models.weights import check_start, pretrained_file
from agesearch.search.run.teachers import chosen_teachers
from agesearch.search.store.records import StudyFolder
from agesearch.specs import ModelSpec, StudySpec
from agesearch.storage import Location

PRETRAINED = ModelSpec(arch="resnet18", init="pretrained")


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty cache of the hub, and no host asked before."""
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    weights._silence.cache_clear()
    yield
    weights._silence.cache_clear()


def answers(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", answer)


def refused(*_: object, **__: object) -> None:
    raise urllib.error.URLError(OSError(111, "Connection refused"))


def test_a_host_that_cannot_be_reached_is_said_with_the_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, refused)
    with pytest.raises(InputError, match=r"cannot be downloaded: .* Connection refused.*--init FILE"):
        check_start(PRETRAINED)


def test_a_host_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    answers(monkeypatch, lambda *_, **__: never.wait())
    monkeypatch.setattr(weights, "ANSWER_S", 0.05)
    with pytest.raises(InputError, match=r"no answer in 0\.05 s"):
        check_start(PRETRAINED)


@pytest.mark.parametrize("status", [200, 404, 429])
def test_a_host_that_answers_is_asked_for_the_weights(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    def answer(request: Any, timeout: float) -> Any:
        if status != 200:
            raise urllib.error.HTTPError(request.full_url, status, "no", request.headers, None)
        return SimpleNamespace(close=lambda: None)

    answers(monkeypatch, answer)
    assert pretrained_file("resnet18") is None


def test_weights_in_the_cache_need_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, refused)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda _, name: f"/cache/{name}")
    assert pretrained_file("resnet18") == "/cache/model.safetensors"


def test_a_network_that_nobody_publishes_weights_of_is_named() -> None:
    with pytest.raises(InputError, match=r"Nobody publishes pretrained weights of lcnet_035.*--init FILE"):
        check_start(ModelSpec(arch="lcnet_035", init="pretrained"))


@pytest.mark.parametrize(
    ("student", "teachers"),
    [
        ({"arch": "resnet18", "init": "pretrained"}, {}),
        ({"arch": "resnet18", "init": "file", "weights": "gone.safetensors"}, {}),
        ({"arch": "resnet18"}, {"age": {"model": {"arch": "resnet50", "init": "pretrained"}}}),
    ],
)
def test_a_study_is_refused_before_its_first_trial(
    student: dict[str, Any], teachers: dict[str, Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, refused)
    document = {"student": {"model": student}, "space": {"optim.epochs": {"choices": [1]}}}
    spec = StudySpec.model_validate({**document, "teachers": teachers})
    monkeypatch.setattr("agesearch.search.run.teachers.read_model_manifest", lambda _: None)
    with pytest.raises(InputError, match=r"cannot be downloaded|There is no weights file 'gone"):
        chosen_teachers(spec, StudyFolder(Location.of(tmp_path)), None if teachers else "teacher", None)
