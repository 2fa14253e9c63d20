"""Structs of MATLAB files (version 5), and MATLAB's dates.

SciPy reads such a file whole, takes hundreds of bytes for each small cell, and a damaged file can crash it
(a segmentation fault, not an exception). So a child process reads the file, under a limit of memory and time,
and hands back the fields as compact Arrow arrays.
"""

from __future__ import annotations

import datetime
import io
import os
import resource
import subprocess
import sys
from typing import Any

import pyarrow as pa

from agesearch.data.sources.values import clean
from agesearch.errors import InputError, first_line
from agesearch.storage import Location

_MAX_FILE_BYTES = 512 * 1024 * 1024
_MAX_CHILD_BYTES = 8 * 1024 * 1024 * 1024
_MAX_CHILD_SECONDS = 600
_CHILD = "import sys; from agesearch.data.sources.matlab import _child; sys.exit(_child(sys.argv[1]))"
_UNREADABLE = 3
#: MATLAB counts days from the year 0, which is a leap year there; Python from the year 1.
_DAYS_BEFORE_PYTHON = 366


def mat_struct(where: Location, name: str) -> dict[str, Any]:
    """The fields of a struct, each a flat Arrow array of numbers, texts, or lists of numbers (a cell that
    holds anything else is null). ``InputError`` where the file is damaged, of version 7.3, or lacks the
    struct.
    """
    table = pa.ipc.open_stream(_read_apart(where, name)).read_all()
    return {field: table[field][0].values for field in table.column_names}


def mat_text(value: pa.Scalar) -> str:
    """A field's entry as text, a whole number without a point; empty where there is none or it is NaN."""
    held = value.as_py()
    if held is None:
        return ""
    return clean(f"{held:.15g}" if isinstance(held, float) else str(held))


def matlab_age(born: float, year: int) -> int:
    """Age in whole years on 1 July of ``year`` of one born on the MATLAB day number ``born``; ``ValueError``
    where a date is none.

    As the owners of IMDB-WIKI count: the year of ``datevec(datenum(year, 7, 1) - dob)``, to which a birthday
    in the last days of June can count as not yet had.
    """
    try:
        days = datetime.date(year, 7, 1).toordinal() + _DAYS_BEFORE_PYTHON - int(born)
        if days <= _DAYS_BEFORE_PYTHON:
            return 0 if days > 0 else -1
        return datetime.date.fromordinal(days - _DAYS_BEFORE_PYTHON).year
    except OverflowError as error:
        raise ValueError(str(error)) from error


def _read_apart(where: Location, name: str) -> bytes:
    """What ``_read`` says of a file, in a process of its own."""
    data = where.read_bytes(_MAX_FILE_BYTES)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        child = subprocess.run(
            [sys.executable, "-c", _CHILD, name],
            input=data,
            capture_output=True,
            env=environment,
            timeout=_MAX_CHILD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(f"'{where}' took more than {_MAX_CHILD_SECONDS} s to read.") from error
    if child.returncode == _UNREADABLE:
        raise InputError(f"'{where}' {child.stderr.decode('utf-8', 'replace').strip().splitlines()[-1]}")
    if child.returncode:
        raise InputError(f"'{where}' is damaged: SciPy's MATLAB reader ended with {child.returncode}.")
    return child.stdout


def _child(name: str) -> int:
    """What the child does: a MATLAB file in, an Arrow stream out."""
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_CHILD_BYTES, _MAX_CHILD_BYTES))
    try:
        sys.stdout.buffer.write(_read(sys.stdin.buffer.read(), name))
    except InputError as error:
        print(error, file=sys.stderr)
        return _UNREADABLE
    return 0


def _read(data: bytes, name: str) -> bytes:
    """An Arrow stream of one row, one list a field of the struct; an ``InputError`` without the file's name
    where there is none.
    """
    from scipy.io import loadmat

    try:
        found = loadmat(io.BytesIO(data), variable_names=[name]).get(name)
        is_struct = found is not None and found.dtype.names is not None and found.size == 1
        columns = {
            field: _column(found[field].item().ravel()) for field in (found.dtype.names if is_struct else ())
        }
    except NotImplementedError as error:
        raise InputError("is a MATLAB file of version 7.3: save it with '-v7' to read it here.") from error
    except Exception as error:  # SciPy raises anything on damaged bytes
        raise InputError(f"cannot be read as a MATLAB file: {first_line(error)[:200]}.") from error
    if not is_struct:
        raise InputError(f"has no struct '{name}'.")
    row = pa.table({field: pa.array([column], pa.list_(column.type)) for field, column in columns.items()})
    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, row.schema) as writer:
        writer.write_table(row)
    return stream.getvalue()


def _column(values: Any) -> pa.Array:
    """A field's entries as an Arrow array: numbers, or what most cells hold, texts or lists of numbers."""
    if values.dtype != object:
        return pa.array(values.astype(str) if values.dtype.kind in "US" else values.astype(float))
    if all(getattr(value, "dtype", None) is not None and value.dtype.kind in "biuf" for value in values):
        return pa.array([value.ravel().astype(float).tolist() for value in values], pa.list_(pa.float64()))
    return pa.array([_text(value) for value in values], pa.string())


def _text(value: Any) -> str | None:
    while getattr(value, "size", None) == 1 and hasattr(value, "item"):
        value = value.item()
    return str(value) if isinstance(value, str | int | float) else None
