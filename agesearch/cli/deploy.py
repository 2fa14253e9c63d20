"""``agesearch deploy``, ``undeploy`` and ``deployments``: services that live on a cluster."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agesearch.cli.common import PLAIN, JsonOption, out, print_json, say, shown_progress, table
from agesearch.cli.publish import RegistryOption, registry_words
from agesearch.cli.serve import (
    AccessLogOption,
    CertificateKeyOption,
    CertificateOption,
    HostOption,
    PortOption,
    SignedByOption,
    ThreadsOption,
    TokenFileOption,
    query_command,
    warn_of_open_host,
)
from agesearch.errors import command
from agesearch.progress import Listener, Progress

if TYPE_CHECKING:
    from agesearch.remote.packing import Parcel
    from agesearch.serving.auth import Token, TokenCheck
    from agesearch.serving.deployments.records import Deployment

#: Seconds in which a cluster must have answered: a job starts in 10, a service in 180 where it has room.
_PATIENCE_S = 300.0
_DIGEST = "sha256"
_NOT_FILES = ("model", "host", "port", "replicas", "threads")

ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="URL",
        help="The cluster's dashboard, or HOST:PORT from one of its nodes (default: "
        "RAY_API_SERVER_ADDRESS, or the cluster started here).",
    ),
]
_Digest = Annotated[str | None, typer.Option("--token-sha256", metavar="FILE", hidden=True)]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for verb, epilog in (
        (deploy, "Example: agesearch deploy ages --address http://HEAD:8265 --registry s3://b/models"),
        (undeploy, "Example: agesearch undeploy ages"),
        (deployments, "Example: agesearch deployments --json"),
    ):
        app.command(verb.__name__, rich_help_panel="Cluster", epilog=epilog)(verb)


def deploy(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="NAME or NAME@ALIAS follow that alias (champion); NAME:VERSION stays."
        ),
    ],
    address: ClusterOption = None,
    registry: RegistryOption = "registry",
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    replicas: Annotated[
        int, typer.Option("--replicas", min=1, max=256, help="Processes that answer, all on one node.")
    ] = 1,
    threads: ThreadsOption = 1,
    token_file: TokenFileOption = None,
    keys: Annotated[
        str | None,
        typer.Option("--keys", metavar="FILE", help="Records of API keys, which every node sees there."),
    ] = None,
    tls_cert: CertificateOption = None,
    tls_key: CertificateKeyOption = None,
    access_log: AccessLogOption = None,
    signed_by: SignedByOption = None,
    token_sha256: _Digest = None,
    as_json: JsonOption = False,
) -> None:
    """Serve a published model on a cluster, where it goes on when this command has ended: it comes back on
    another node where its own is lost, and takes a version that its alias is moved to ('agesearch promote').

    The registry and all files are those of the cluster's nodes, and are looked at there first; the token
    stays here. The service holds CPUs of one node (replicas x threads), and listens there.
    """
    from agesearch.remote.packing import parcel
    from agesearch.serving.deployments.records import Deployment

    check, token = _token(token_file, token_sha256, host)
    if tls_cert is None:
        warn_of_open_host(host)
    with parcel() as sent:
        where = sent.told(registry, is_output=True)
        files = {"keys": keys, "tls_cert": tls_cert, "tls_key": tls_key, "access_log": access_log}
        files["signed_by"] = signed_by
        wanted = Deployment(
            model=model,
            host=host,
            port=port,
            replicas=replicas,
            threads=threads,
            **{name: sent.told(file, is_output=True) for name, file in files.items() if file is not None},
        )

        found = _asked(
            address,
            "deploy",
            [*_words(wanted), "--registry", where],
            sent,
            partial(_deployed, where, wanted, check),
            check,
        )
    for note in found["left_out_nodes"]:
        say(f"Not used: {note}")
    if found["why"]:
        say(f"{found['name']}: {found['why']}")
    if as_json:
        print_json(found)
    else:
        again = [*(["--address", address] if address else []), *registry_words(registry)]
        _announce(found, token, tls_cert, again)


def undeploy(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="NAME, NAME@ALIAS or NAME:VERSION.")],
    address: ClusterOption = None,
    registry: RegistryOption = "registry",
    as_json: JsonOption = False,
) -> None:
    """End a service on a cluster: it answers what it has, then none of its processes is left."""
    from agesearch.remote.packing import parcel

    with parcel() as sent:
        where = sent.told(registry, is_output=True)

        def here(on_progress: Listener) -> dict[str, Any]:
            from agesearch.serving.deployments import operations

            on_progress(Progress(f"Ending {model}", 0, 1))
            return operations.undeploy(model, where).as_json()

        found = _asked(address, "undeploy", [model, "--registry", where], sent, here)
    if as_json:
        print_json(found)
    say(f"{found['name']} is deployed no longer.")


def deployments(
    address: ClusterOption = None,
    registry: RegistryOption = "registry",
    restore: Annotated[
        bool,
        typer.Option("--restore", help="Deploy again what the registry has on record and the cluster lost."),
    ] = False,
    recorded_for: Annotated[
        str | None,
        typer.Option(
            "--recorded-for", metavar="HOST:PORT", help="With --restore: the address that the lost head had."
        ),
    ] = None,
    token_file: TokenFileOption = None,
    token_sha256: _Digest = None,
    as_json: JsonOption = False,
) -> None:
    """List the services of a cluster, and those that the registry says are on it.

    A cluster whose head was lost has none any more: with --restore they come back, with the token given here.
    """
    from agesearch.remote.packing import parcel

    check = _token(token_file, token_sha256)[0] if restore else None
    with parcel() as sent:
        where = sent.told(registry, is_output=True)

        def here(on_progress: Listener) -> list[dict[str, Any]]:
            from agesearch.serving.deployments import operations

            if check is not None:
                operations.restore(where, check, recorded_for, on_progress=on_progress)
            return [service.as_json() for service in operations.deployments(where)]

        words = ["--registry", where, *(["--restore"] if restore else [])]
        words += ["--recorded-for", recorded_for] if recorded_for else []
        found = _asked(address, "deployments", words, sent, here, check)
    if as_json:
        print_json(found)
        return
    columns = ["name", "version", "URL", "node", "state", "replicas", "since, UTC"]
    rows = [
        [
            one["name"],
            one["version"] or "",
            one["url"] or "",
            one["node"] or "",
            one["state"],
            f"{one['replicas']} of {one['wanted']}",
            one["since"][:19],
        ]
        for one in found
    ]
    out.print(table("Deployments", columns, rows, optional=["since, UTC", "node"]), highlight=False)
    for one in found:
        if one["why"]:
            say(f"{one['name']}: {one['why']}")


def _deployed(registry: str, wanted: Deployment, check: TokenCheck, on_progress: Listener) -> dict[str, Any]:
    from agesearch.serving.deployments import operations

    service, left_out = operations.deploy(registry, wanted, check, on_progress=on_progress)
    return service.as_json() | {"left_out_nodes": [f"{node}: {why}" for node, why in left_out.items()]}


def _token(
    token_file: str | None, sha256_file: str | None, host: str = ""
) -> tuple[TokenCheck, Token | None]:
    """What the service shall check, and the token where it is here: in a job it is not."""
    from agesearch.serving.auth import TokenCheck, require_given_token, service_token

    if sha256_file is not None:
        return TokenCheck.of(json.loads(Path(sha256_file).read_text("utf-8"))[_DIGEST]), None
    if host:
        require_given_token(host, token_file, os.environ)
    token = service_token(token_file, os.environ)
    return TokenCheck(token.value), token


def _words(wanted: Deployment) -> list[str]:
    """A deployment as the verb is told of it."""
    given = wanted.model_dump(mode="json", exclude_defaults=True, exclude={"model"})
    return [
        wanted.model,
        *(word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))),
    ]


def _asked(
    address: str | None,
    verb: str,
    words: Sequence[str],
    sent: Parcel,
    here: Callable[[Listener], Any],
    check: TokenCheck | None = None,
) -> Any:
    """What a verb answers within the cluster: ``here``, where this process can join it, else as a job, which
    has a sum of the token in a file and on no list.
    """
    from agesearch.remote.asking import answer_of
    from agesearch.remote.jobs import Jobs
    from agesearch.session import ray_session

    joined = _joined(address)
    with shown_progress() as on_progress, ExitStack() as stack:
        if joined is not None:
            stack.enter_context(ray_session(joined, credentials=False, on_progress=on_progress))
            return here(on_progress)
        cluster = Jobs(address)
        if check is not None:
            folder = stack.enter_context(TemporaryDirectory())
            file = Path(folder) / "access.json"
            file.write_text(json.dumps({_DIGEST: check.sha256}), "utf-8")
            words = [*words, "--token-sha256", sent.told(str(file))]
        on_progress(Progress(f"Asking {cluster.address}", 0, 1))
        return answer_of(cluster, [verb], words, sent, seconds=_PATIENCE_S)


def _joined(address: str | None) -> str | None:
    """The address that this process can join; None where the dashboard is to be asked."""
    from agesearch.remote.jobs import ADDRESS_VARIABLE
    from agesearch.remote.local import local_cluster
    from agesearch.session import cluster_of_job

    if address is not None:
        return None if "://" in address else address
    if (job := cluster_of_job()) is not None:
        return job
    local = None if os.environ.get(ADDRESS_VARIABLE) else local_cluster()
    return local.address if local is not None and local.is_up else None


def _announce(found: dict[str, Any], token: Token | None, ca_file: str | None, again: list[str]) -> None:
    lines = [f"{found['name']} answers at {found['url']} with version {found['version']}, on {found['node']}"]
    if token is not None:
        place = token.file or "AGESEARCH_TOKEN"
        shown = f"{token.value}  (shown once; kept in {place})" if token.is_new else f"the one in {place}"
        lines += [f"  token  {shown}", f"  try    {query_command(found['url'], token, ca_file)}"]
    lines += [f"  end    {command('undeploy', found['name'], *again)}"]
    for line in lines:
        out.print(line, **PLAIN)
