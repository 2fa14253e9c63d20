"""``agesearch serve``: answer over HTTP until Ctrl-C."""

from __future__ import annotations

import os
from contextlib import ExitStack
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from agesearch.cli.common import err, out, say, shown_progress
from agesearch.cli.publish import RegistryOption
from agesearch.cli.stopping import until_stopped
from agesearch.errors import AgeSearchError, InputError, command
from agesearch.progress import Progress
from agesearch.serving.auth import DEFAULT_KEYS_FILE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agesearch.serving.app import RunningService, ServiceOptions
    from agesearch.serving.auth import Token
    from agesearch.serving.rollout.models import ServedModel
    from agesearch.storage import Location

_EXAMPLE = "Example: agesearch serve ages --port 8080"
_MOST_REPLICAS = 256


HostOption = Annotated[str, typer.Option("--host", help="Address to listen on.")]
PortOption = Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen on.")]
ThreadsOption = Annotated[int, typer.Option("--threads", min=1, max=256, help="Threads of each replica.")]
TokenFileOption = Annotated[
    str | None,
    typer.Option(
        "--token-file",
        help="File with the token; default: AGESEARCH_TOKEN, else ~/.agesearch/token, made if need be.",
    ),
]
CertificateOption = Annotated[
    str | None,
    typer.Option("--tls-cert", metavar="FILE", help="Certificate chain (PEM): speak TLS 1.2 or newer."),
]
CertificateKeyOption = Annotated[
    str | None, typer.Option("--tls-key", metavar="FILE", help="The certificate's private key (PEM).")
]
AccessLogOption = Annotated[
    str | None,
    typer.Option("--access-log", metavar="FILE", help="Append a line of JSON for each answer."),
]
SignedByOption = Annotated[
    str | None,
    typer.Option("--signed-by", metavar="FILE", help="Public key: start only what its owner signed."),
]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("serve", rich_help_panel="Service", epilog=_EXAMPLE)(serve)


def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="NAME or NAME@ALIAS follow that alias (champion) as it moves; NAME:VERSION stays.",
        ),
    ],
    registry: RegistryOption = "registry",
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    replicas: Annotated[
        str,
        typer.Option(
            "--replicas", metavar="N|MIN-MAX", help="Processes of each model that answer; a range: by load."
        ),
    ] = "1",
    threads: ThreadsOption = 1,
    token_file: TokenFileOption = None,
    keys: Annotated[
        str, typer.Option("--keys", metavar="FILE", help="Records of API keys ('agesearch keys create').")
    ] = DEFAULT_KEYS_FILE,
    tls_cert: CertificateOption = None,
    tls_key: CertificateKeyOption = None,
    access_log: AccessLogOption = None,
    signed_by: SignedByOption = None,
) -> None:
    """Serve published models: POST /v1/predict takes an image and gives the age of each face in it.

    A service that follows an alias takes a version that it is moved to ('agesearch promote') under load.
    """
    from agesearch.serving.access.keys import checked_file
    from agesearch.serving.auth import require_given_token, service_token
    from agesearch.serving.ingress.tls import certificate_of
    from agesearch.serving.ports import require_free
    from agesearch.serving.rollout.models import require_opens, served_models

    least, most = replica_range(replicas)
    served = served_models(models, registry, signed_by)
    require_given_token(host, token_file, os.environ)
    certificate = certificate_of(tls_cert, tls_key)
    require_free(host, port)
    token = service_token(token_file, os.environ)
    known_keys = checked_file(keys)
    if certificate is None:
        warn_of_open_host(host)
    for model in served:
        _warn_of_other_detector(model.folder)
        require_opens(model.first)

    from agesearch.serving.app import ServiceOptions
    from agesearch.serving.orphans import ray_lives

    options = ServiceOptions(
        host=host,
        port=port,
        replicas=least,
        most_replicas=most,
        threads=threads,
        keys=known_keys,
        certificate=certificate,
        access_log=access_log,
    )
    with until_stopped() as wait, ExitStack() as stack:
        service = _started(stack, served, token, options)
        _announce(_labels(served), service, token, tls_cert)
        is_asked = wait(ray_lives())
        err.print("Stopping ...")
        if not is_asked:
            raise AgeSearchError("Ray has ended under the service, which ends, too: start it again.")


def _labels(served: Sequence[ServedModel]) -> str:
    return ", ".join(f"{model.name}:{model.version}" for model in served)


def _started(
    stack: ExitStack, served: Sequence[ServedModel], token: Token, options: ServiceOptions
) -> RunningService:
    """A service that answers, on a Ray of its own, until the stack is closed."""
    from agesearch.serving.app import serving
    from agesearch.session import ray_session

    with shown_progress() as on_progress:
        cpus, stage = options.cpus(len(served)), f"Starting {_labels(served)}"
        stack.enter_context(ray_session(on_progress=on_progress, background=False, cpus=cpus))
        on_progress(Progress(stage, 0, 1))
        service = stack.enter_context(serving(served, token.value, options, say))
        on_progress(Progress(stage, 1, 1))
    return service


def replica_range(text: str) -> tuple[int, int]:
    """``3`` or ``1-4`` as least and most replicas; an ``InputError`` for anything else."""
    low, dash, high = text.partition("-")
    ends = (low, high if dash else low)
    if all(end.isascii() and end.isdigit() and len(end) < 4 for end in ends):
        least, most = int(ends[0]), int(ends[1])
        if 1 <= least <= most <= _MOST_REPLICAS:
            return least, most
    raise InputError(
        f"--replicas is '{text[:40]}', but must be a number from 1 to {_MOST_REPLICAS}, or a range as 1-4."
    )


def warn_of_open_host(host: str) -> None:
    """Say that a service without TLS can be read on the way, where it leaves this machine."""
    from agesearch.serving.auth import is_loopback

    if not is_loopback(host):
        err.print(
            f"Note: {host} can be reached from other machines, and HTTP is not encrypted: give --tls-cert "
            "and --tls-key, or the token and the images can be read on the way.",
            style="yellow",
            highlight=False,
        )


def _warn_of_other_detector(folder: Location) -> None:
    from agesearch.data.images.recipe import open_recorded
    from agesearch.models.identity import read_model_manifest

    _, note = open_recorded(read_model_manifest(folder).crop)
    if note is not None:
        err.print(f"Note: {note}", style="yellow", highlight=False, markup=False)


def _announce(label: str, service: RunningService, token: Token, ca_file: str | None) -> None:
    place = token.file or "AGESEARCH_TOKEN"
    lines = [f"{label} answers at {service.url}", f"  page   {service.url}/   calls {service.docs_url}"]
    if token.is_new:
        lines.append(f"  token  {token.value}  (shown once; kept in {place})")
    else:
        lines.append(f"  token  the one in {place}")
    shown = f"$(cat {quote(str(place))})" if token.file else "$AGESEARCH_TOKEN"
    trust = f" --cacert {quote(ca_file)}" if ca_file else ""
    lines += [
        f"  try    {query_command(service.url, token, ca_file)}",
        f'  or     curl{trust} -H "Authorization: Bearer {shown}" -H "Content-Type: image/jpeg" '
        f"--data-binary @photo.jpg {service.url}/v1/predict",
        "  stop   Ctrl-C",
    ]
    for line in lines:
        out.print(line, highlight=False, markup=False, soft_wrap=True)


def query_command(address: str, token: Token, ca_file: str | None) -> str:
    """How a service at that address is asked from this account."""
    from pathlib import Path

    from agesearch.serving.auth import DEFAULT_TOKEN_FILE
    from agesearch.serving.ports import DEFAULT_URL

    is_default = token.file is None or token.file == Path(DEFAULT_TOKEN_FILE).expanduser()
    url = [] if address == DEFAULT_URL else ["--url", address]
    trust = ["--ca", ca_file] if ca_file else []
    file = [] if is_default else ["--token-file", token.file]
    return command("query", "photo.jpg", *url, *file, *trust)
