"""``agesearch query``: ask a running service for the ages in images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agesearch.cli.common import JsonOption, err, out, print_json, table
from agesearch.errors import AgeSearchError, InputError
from agesearch.serving.ports import DEFAULT_URL

if TYPE_CHECKING:
    from agesearch.serving.client import Client
    from agesearch.serving.schema import Prediction

_EXAMPLE = "Example: agesearch query photo.jpg group.png"
_MAX_FILE_BYTES = 64 * 1024 * 1024


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("query", rich_help_panel="Service", epilog=_EXAMPLE)(query)


def query(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files.")],
    url: Annotated[str, typer.Option("--url", help="Address of the service.")] = DEFAULT_URL,
    token_file: Annotated[
        str | None,
        typer.Option(
            "--token-file",
            help="File with the service's token; default: AGESEARCH_TOKEN, else ~/.agesearch/token.",
        ),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Each image is one face crop already: do not look for faces.")
    ] = False,
    challenge_age: Annotated[
        float | None,
        typer.Option("--challenge", metavar="AGE", min=0, max=100, help="Decide: pass, refuse or unsure."),
    ] = None,
    ca_file: Annotated[
        str | None,
        typer.Option("--ca", metavar="FILE", help="Certificates (PEM) that an https service is known by."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="Which of several models to ask.")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Ask a running service for the age of each face in the images. Exit code 1 where it refused one."""
    from agesearch.serving.auth import client_token
    from agesearch.serving.client import Client

    for image in images:
        if not image.is_file():
            raise InputError(f"There is no image file '{image}'.")
    token = client_token(token_file, os.environ)
    with Client(url, token.value, ca_file=ca_file) as client:
        answers = [_ask(client, image, whole, challenge_age, model) for image in images]
    if json_output:
        print_json([_as_json(image, answer) for image, answer in zip(images, answers, strict=True)])
    else:
        _show(images, answers)
    refused = [answer for answer in answers if isinstance(answer, str)]
    if refused:
        raise AgeSearchError(f"{len(refused)} of {len(images)} images were refused; the reasons are above.")


def _ask(
    client: Client, image: Path, whole: bool, challenge_age: float | None, model: str | None
) -> Prediction | str:
    """The prediction, or why the service refused this image: one bad image does not cost the others."""
    from agesearch.serving.client import RefusedImage

    try:
        with open(image, "rb") as handle:
            data = handle.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if len(data) > _MAX_FILE_BYTES:
        return f"is larger than {_MAX_FILE_BYTES} bytes"
    try:
        return client.predict(
            data, faces="whole" if whole else "detect", challenge_age=challenge_age, model=model
        )
    except RefusedImage as error:
        return str(error)


def _as_json(image: Path, answer: Prediction | str) -> dict[str, Any]:
    if isinstance(answer, str):
        return {"file": str(image), "error": answer}
    return {"file": str(image), **answer.model_dump(mode="json")}


def _show(images: list[Path], answers: list[Prediction | str]) -> None:
    rows: list[list[str]] = []
    interval, model, decided = "", "", False
    for image, answer in zip(images, answers, strict=True):
        if isinstance(answer, str):
            err.print(f"{image}: {answer}", style="red", highlight=False, markup=False, soft_wrap=True)
            continue
        interval, model = interval_words(answer), f"{answer.model.name} {answer.model.version}"
        decided = answer.challenge_age is not None
        rows += _rows(str(image), answer)
    if rows:
        columns = ["file", "face", "age", interval, *(["decision"] if decided else []), "box x, y, w, h"]
        out.print(table(f"Ages by {model}", columns, rows, optional=["face", "box x, y, w, h"]))


def interval_words(answer: Prediction) -> str:
    """What an answer's intervals are, for the head of a column."""
    if answer.interval_level is None:
        return "model's own range, unchecked"
    return f"{answer.interval_level:.0%} interval"


def _rows(file: str, answer: Prediction) -> list[list[str]]:
    decided = answer.challenge_age is not None
    if not answer.faces:
        return [[file, "none", "", "", *([""] if decided else []), ""]]
    return [
        [
            file,
            str(index),
            f"{face.age:.1f}",
            f"{face.interval[0]:.0f} - {face.interval[1]:.0f}",
            *([face.decision or ""] if decided else []),
            ", ".join(f"{value:.0f}" for value in face.box),
        ]
        for index, face in enumerate(answer.faces, 1)
    ]
