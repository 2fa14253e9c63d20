"""``agesearch submit``, ``jobs`` and ``logs``: work that goes on when the machine that sent it is off."""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agesearch.cli.common import JsonOption, err, out, print_json, say, table
from agesearch.errors import AgeSearchError, InputError, command, unknown_name

if TYPE_CHECKING:
    from agesearch.remote.jobs import Job
    from agesearch.remote.packing import Parcel

#: Verbs whose work is worth sending; a group stands for all of its verbs.
SUBMITTED = (
    "data",
    "teach",
    "targets",
    "annotate",
    "finetune",
    "tune",
    "resume",
    "replay",
    "evaluate",
    "measure",
    "compare",
    "matrix",
    "report",
    "calibrate",
    "publish",
    "export",
)
#: Options that name where something is written, though nothing lies there yet.
_OUTPUTS = ("--out", "--registry", "--records")
#: Verbs that are about a study, and their parameter that names it.
_STUDIES = (("tune", "to"), ("resume", "study"))

ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="URL",
        help="The cluster's dashboard (default: RAY_API_SERVER_ADDRESS, or the cluster started here).",
    ),
]
_JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Its id, or the name of its study.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(
        "submit",
        rich_help_panel="Cluster",
        context_settings={"ignore_unknown_options": True},
        epilog="Example: agesearch submit tune search_spaces/quick.yaml --data s3://b/faces --out s3://b/study",
    )(submit)
    app.command("jobs", rich_help_panel="Cluster", epilog="Example: agesearch jobs --json")(jobs)
    app.command("logs", rich_help_panel="Cluster", epilog="Example: agesearch logs first --follow")(logs)


def submit(
    ctx: typer.Context,
    words: Annotated[list[str], typer.Argument(metavar="VERB ...", help="The verb with its options.")],
    address: ClusterOption = None,
    code: Annotated[
        str | None,
        typer.Option(
            "--code",
            metavar="FOLDER",
            help="Send the agesearch of this folder along, to be used there.",
        ),
    ] = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", help="Show what the job writes; Ctrl-C leaves it running."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Hand a verb to a cluster, where it runs as a job: 'agesearch submit tune SPACE.yaml --data DS ...'.

    The verb's options are checked here. Small files of settings travel along; every other place is one that
    the cluster must see: a URI, or a folder that its machines share. Data credentials are the cluster's own.
    """
    from agesearch.remote.jobs import Jobs
    from agesearch.remote.packing import parcel

    path, verb, rest = _verb(ctx, words)
    with parcel() as sent:
        told, study = _packed(path, verb, rest, sent)
        if code is not None:
            sent.add_code(code)
        cluster = Jobs(address)
        joins = any(param.name == "address" for param in verb.params)
        job = cluster.submit(path, told, sent, study=study, cpus=0.0 if joins else 1.0)
    say(f"Submitted as {job.id} to {cluster.address}.")
    if as_json:
        print_json(_as_json(job))
    at = ("--address", cluster.address)
    if follow:
        _follow(cluster, job, to_stderr=as_json)
        return
    say(f"Look at it: {command('logs', job.id, '--follow', *at)}")
    say(f"Stop it: {command('stop', job.id, *at)}")


def jobs(address: ClusterOption = None, as_json: JsonOption = False) -> None:
    """List the jobs of a cluster, the latest first."""
    from agesearch.remote.jobs import Jobs

    cluster = Jobs(address)
    found = cluster.all()
    if as_json:
        print_json([_as_json(job) for job in found])
        return
    rows = [[job.id, job.state, job.verb or job.command, job.study, job.began[:19], job.by] for job in found]
    columns = ["job", "state", "runs", "study", "began, UTC", "by"]
    out.print(
        table(f"Jobs of {cluster.address}", columns, rows, optional=["by", "began, UTC"]), highlight=False
    )


def logs(
    job: _JobArgument,
    address: ClusterOption = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job is over.")] = False,
) -> None:
    """Print what a job has written. With --follow the exit code is 1 where the job failed."""
    from agesearch.remote.jobs import Jobs

    cluster = Jobs(address)
    found = cluster.find(job)
    if follow:
        _follow(cluster, found)
    else:
        print(cluster.log(found), end="", file=out.file, flush=True)


def _follow(cluster: Any, job: Job, *, to_stderr: bool = False) -> None:
    console = err if to_stderr else out

    def tell(lines: str) -> None:
        print(lines, end="", file=console.file, flush=True)

    ended = cluster.follow(job, tell)
    say(f"{ended.id}: {ended.state}")
    if ended.state == "FAILED":
        raise AgeSearchError(f"The job {ended.id} failed; its last words are above.")


def _packed(path: list[str], verb: Any, rest: list[str], sent: Parcel) -> tuple[list[str], str]:
    """What follows the verb, as the job is told of it, and the study that it is about ("": none)."""
    parsed = verb.make_context(" ".join(path), list(rest))
    options: list[str] = []
    arguments: list[str] = []
    study = ""
    for param in verb.params:
        value = parsed.params.get(param.name)
        given = parsed.get_parameter_source(param.name).name == "COMMANDLINE"
        is_study = (path[0], param.name) in _STUDIES
        is_output = is_study or any(name in _OUTPUTS for name in param.opts)
        if value is None or not (given or (is_output and isinstance(value, str))):
            continue
        if param.param_type_name == "option" and isinstance(value, bool):
            options += [param.opts[0] if value else param.secondary_opts[0]]
            continue
        values = value if isinstance(value, list | tuple) else [value]
        told = [_word(one, sent, is_output=is_output) for one in values]
        if param.param_type_name == "argument":
            arguments += told
        else:
            options += [word for one in told for word in (param.opts[0], one)]
        if is_study:
            study = told[0]
    return [*arguments, *options], study


def _word(value: Any, sent: Parcel, *, is_output: bool) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    return sent.told(value, is_output=is_output) if isinstance(value, str) else str(value)


def _verb(ctx: typer.Context, words: list[str]) -> tuple[list[str], Any, list[str]]:
    """The path to the verb that ``words`` begin with, its command, and what follows it."""
    found: Any = ctx.find_root().command
    path: list[str] = []
    for count, word in enumerate(words):
        known = found.commands
        if not path and word not in known and word in known["data"].commands:  # submit ingest ...
            path, known = ["data"], known["data"].commands
        if word not in known:
            raise unknown_name("verb", word, known)
        path, found = [*path, word], known[word]
        if path[0] not in SUBMITTED:
            raise InputError(
                f"'{path[0]}' cannot be submitted: it is run where you are. What can: {', '.join(SUBMITTED)}."
            )
        if not hasattr(found, "commands"):
            return path, found, words[count + 1 :]
    raise InputError(
        f"'{' '.join(words)}' names no verb: it goes on with one of {', '.join(found.commands)}."
    )


def _as_json(job: Job) -> dict[str, Any]:
    return asdict(job)
