"""``agesearch keys``: API keys of a service: make one, list them, revoke one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from agesearch.cli.common import JsonOption, out, print_json, say, table
from agesearch.errors import ConflictError, InputError
from agesearch.serving.auth import DEFAULT_KEYS_FILE, DEFAULT_RATE

if TYPE_CHECKING:
    from agesearch.serving.access.keys import KeyRecord

_EXAMPLES = {
    "create": "Example: agesearch keys create kiosk --expires 90d --out kiosk.key",
    "list": "Example: agesearch keys list",
    "revoke": "Example: agesearch keys revoke kiosk",
}

KeysOption = Annotated[
    str, typer.Option("--keys", metavar="FILE", help="File with the records of the service's keys.")
]


def add_to(app: typer.Typer) -> None:
    """Register the group ``keys``."""
    group = typer.Typer(no_args_is_help=True, help="API keys of a service: create, list, revoke.")
    group.command("create", epilog=_EXAMPLES["create"])(create)
    group.command("list", epilog=_EXAMPLES["list"])(list_)
    group.command("revoke", epilog=_EXAMPLES["revoke"])(revoke)
    app.add_typer(group, name="keys", rich_help_panel="Service", epilog=_EXAMPLES["create"])


def create(
    name: Annotated[str, typer.Argument(help="What the key is called in the list.")],
    scope: Annotated[
        Literal["predict", "admin"],
        typer.Option("--scope", help="predict: ask for ages; admin: everything, the metrics too."),
    ] = "predict",
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="TIME", help="90d, 12h, 4w, or a date; never.")
    ] = None,
    rate: Annotated[
        str, typer.Option("--rate", help="Images in a time, like 5/second; none: no limit.")
    ] = DEFAULT_RATE,
    out_file: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="A new file for the key, instead of standard output."),
    ] = None,
    keys: KeysOption = DEFAULT_KEYS_FILE,
    json_output: JsonOption = False,
) -> None:
    """Make a key and show it once; the file keeps what proves it (a SHA-256), never the key.

    A client sends it as it does the token: in a file (--token-file) or AGESEARCH_TOKEN.
    """
    from agesearch.serving.access.keys import KeyFile, expiry, rate_limit

    limit = None if rate_limit(rate) is None else rate
    until = expiry(expires)
    handle = None if out_file is None else _new_file(out_file)
    store = KeyFile(keys)
    try:
        made = store.create(name, scope, until, limit)
    except Exception:
        if out_file is not None:
            out_file.unlink()
        raise
    if handle is not None:
        with handle:
            handle.write(made.value + "\n")
    if json_output:
        print_json(_as_json(made.record) | ({} if out_file else {"key": made.value}))
        return
    if out_file is None:
        out.print(made.value, highlight=False, markup=False, soft_wrap=True)
    where = f"in {out_file}" if out_file else "shown once"
    say(f"Key '{name}' ({made.record.id}), {_words(made.record)}: {where}; its record is in {store.path}")


def list_(keys: KeysOption = DEFAULT_KEYS_FILE, json_output: JsonOption = False) -> None:
    """List the keys: scope, rate, when each was made and ends, and whether it still lets anybody in."""
    from agesearch.serving.access.keys import KeyFile

    records = KeyFile(keys).records()
    if json_output:
        print_json([_as_json(record) for record in records])
        return
    if not records:
        say(f"There is no key in {keys}: 'agesearch keys create NAME' makes one.")
        return
    rows = [
        [record.name, record.id, _state(record), record.scope, record.rate or "none"]
        + [f"{record.created:%Y-%m-%d}", f"{record.expires:%Y-%m-%d %H:%M}" if record.expires else "never"]
        for record in records
    ]
    out.print(table("Keys", ["name", "id", "state", "scope", "rate", "created", "expires (UTC)"], rows))


def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its name or id, not the key itself.")],
    keys: KeysOption = DEFAULT_KEYS_FILE,
    json_output: JsonOption = False,
) -> None:
    """Revoke a key: running services refuse it within a second."""
    from agesearch.serving.access.keys import KeyFile

    record = KeyFile(keys).revoke(key)
    if json_output:
        print_json(_as_json(record))
        return
    say(f"Revoked key '{record.name}' ({record.id}).")


def _new_file(path: Path) -> Any:
    import os

    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii")
    except FileExistsError as error:
        raise ConflictError(f"'{path}' exists already: choose a new file for the key.") from error
    except OSError as error:
        raise InputError(f"'{path}' cannot be written: {error.strerror}.") from error


def _state(record: KeyRecord) -> str:
    from datetime import UTC, datetime

    return record.state(datetime.now(UTC))


def _words(record: KeyRecord) -> str:
    ends = f"until {record.expires:%Y-%m-%d %H:%M} UTC" if record.expires else "without an end"
    return f"scope {record.scope}, {record.rate or 'no rate'}, {ends}"


def _as_json(record: KeyRecord) -> dict[str, Any]:
    """What may be shown of a key: all but the digest."""
    return record.model_dump(mode="json", exclude={"sha256"}) | {"state": _state(record)}
