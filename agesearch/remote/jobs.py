"""[ray] Work that is handed to a cluster as a job of Ray's: it goes on when the machine that sent it is off.

Everything goes through the address of the cluster's dashboard, with the token that Ray finds in its file or
in the environment; the token is on no command line.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import re
import secrets
import shlex
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from agesearch.errors import AgeSearchError, InputError, first_line
from agesearch.provenance import VERSION, name_of
from agesearch.remote.local import local_cluster
from agesearch.remote.packing import Parcel
from agesearch.session import prepare_environment

#: Where a cluster's jobs are taken, if nobody says otherwise: Ray's own variable.
ADDRESS_VARIABLE = "RAY_API_SERVER_ADDRESS"
#: Seconds that a job which is told to end has for it; by itself Ray kills after 3, in the middle of an epoch.
GRACE_S = 900
_MODULE = "agesearch.cli.submitted"
_ENDED = ("STOPPED", "SUCCEEDED", "FAILED")
_LOOK_S = 1.0
#: What a verb ends with that Ctrl-C or SIGTERM ended.
_EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class Job:
    """A job: its state in Ray's words, what it runs, and the study that it is about ("" where none).
    ``began`` and ``ended`` are UTC in ISO 8601, "" where that has not happened; ``exit_code`` is None then.
    """

    id: str
    state: str
    verb: str
    study: str
    version: str
    by: str
    began: str
    ended: str
    command: str
    message: str = ""
    exit_code: int | None = None

    @property
    def is_over(self) -> bool:
        return self.state in _ENDED


class Jobs:
    """The jobs of the cluster whose dashboard is at ``address``."""

    def __init__(self, address: str | None = None) -> None:
        """Raises ``InputError`` where no cluster answers there, or wants another token."""
        self.address = _resolved(address)
        prepare_environment()
        from ray.job_submission import JobSubmissionClient

        with _in_words(self.address):
            self._client = JobSubmissionClient(self.address)

    def submit(
        self,
        verb: Sequence[str],
        words: Sequence[str],
        parcel: Parcel | None = None,
        *,
        study: str = "",
        cpus: float = 0.0,
    ) -> Job:
        """Hand over a verb (of a group: two words) and what follows it, with a parcel; the job that runs it.

        It holds ``cpus`` of a node; a verb that joins the cluster holds none, and runs on the head.
        """
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", name_of(study) if study else "").strip("-.")
        submission = "-".join(filter(None, (*verb, name[:40], secrets.token_hex(3))))
        runtime: dict[str, Any] = {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(GRACE_S)}}
        if parcel is not None and not parcel.is_empty:
            runtime["working_dir"] = parcel.folder
        about = {"agesearch": VERSION, "verb": " ".join(verb), "study": study, "by": _who()}
        with _in_words(self.address):
            self._client.submit_job(
                entrypoint=f"exec python -m {shlex.join([_MODULE, VERSION, *verb, *words])}",
                submission_id=submission,
                runtime_env=runtime,
                metadata=about,
                entrypoint_num_cpus=cpus or None,
            )
        return self.find(submission)

    def all(self) -> list[Job]:
        """The jobs that were submitted, the latest first."""
        with _in_words(self.address):
            found = [_told(details) for details in self._client.list_jobs() if details.submission_id]
        return sorted(found, key=lambda job: job.began, reverse=True)

    def find(self, name: str) -> Job:
        """The job of this id, or the latest about a study of this name or place; an ``InputError`` lists the
        jobs that there are.
        """
        jobs = self.all()
        for job in jobs:
            if job.id == name:
                return job
        about = [
            job
            for job in jobs
            if job.study and name in (job.study, name_of(job.study), os.path.abspath(name))
        ]
        if about:
            return next((job for job in about if not job.is_over), about[0])
        known = ", ".join(job.id for job in jobs[:10]) or "none"
        raise InputError(f"'{name}' is no job of the cluster at {self.address}; its latest ones: {known}.")

    def log(self, job: Job) -> str:
        """All that a job has written so far."""
        with _in_words(self.address):
            return str(self._client.get_job_logs(job.id))

    def follow(self, job: Job, tell: Callable[[str], None]) -> Job:
        """Tell what a job writes, from its beginning, until it is over; the job as it then is.

        The dashboard may let go of who follows, or of a job's last lines: what is missing is asked for again.
        """
        told = 0

        def more(log: str) -> None:
            nonlocal told
            if len(log) > told:
                tell(log[told:])
                told = len(log)

        async def tail() -> None:
            heard = ""
            async for lines in self._client.tail_job_logs(job.id):
                heard += lines
                more(heard)

        while not (job := self.find(job.id)).is_over:
            if job.state != "PENDING":
                with _in_words(self.address):
                    asyncio.run(tail())
            time.sleep(_LOOK_S)
        more(self.log(job))
        return job

    def wait(self, job: Job, seconds: float) -> Job:
        """The job once it is over, or as it is after so many seconds."""
        end = time.monotonic() + seconds
        job = self.find(job.id)
        while not job.is_over and time.monotonic() < end:
            time.sleep(_LOOK_S)
            job = self.find(job.id)
        return job

    def end(self, job: Job) -> None:
        """Tell a job to end as Ctrl-C does, and return; it is killed ``GRACE_S`` seconds later only."""
        with _in_words(self.address):
            self._client.stop_job(job.id)


def _resolved(address: str | None) -> str:
    """The dashboard's address, of the cluster that was started here where none is given."""
    address = address or os.environ.get(ADDRESS_VARIABLE)
    if not address:
        here = local_cluster()
        if here is None or not here.is_up:
            raise InputError(
                "Which cluster? Give --address URL (its dashboard's, http://HOST:8265), or set "
                f"{ADDRESS_VARIABLE}."
            )
        address = here.dashboard_url
    if not address.startswith(("http://", "https://")):
        raise InputError(
            f"'{address}' is not the address of a dashboard, which takes jobs: it begins with http:// or "
            "https:// (as a rule port 8265)."
        )
    return address.rstrip("/")


@contextmanager
def _in_words(address: str) -> Iterator[None]:
    """What can go wrong between here and a dashboard, as errors of ours."""
    import requests
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        raise InputError(
            f"The cluster at {address} wants another token: put its own, mode 0600, into ~/.ray/auth_token "
            "(ray get-auth-token prints it on its head)."
        ) from error
    except (ConnectionError, requests.exceptions.RequestException) as error:
        raise InputError(
            f"No cluster's dashboard answers at {address}: is it up, and can it be reached (a tunnel, a VPN)?"
        ) from error
    except (RuntimeError, ValueError) as error:
        raise AgeSearchError(f"The cluster at {address} refused: {first_line(error)[:300]}") from error


def _told(details: Any) -> Job:
    about = details.metadata or {}
    state = str(getattr(details.status, "value", details.status))
    if state == "FAILED" and details.driver_exit_code == _EXIT_INTERRUPTED:
        state = "STOPPED"
    return Job(
        id=details.submission_id,
        state=state,
        verb=about.get("verb", ""),
        study=about.get("study", ""),
        version=about.get("agesearch", ""),
        by=about.get("by", ""),
        began=_moment(details.start_time),
        ended=_moment(details.end_time),
        command=details.entrypoint.removeprefix("exec "),
        message=(details.message or "").strip(),
        exit_code=details.driver_exit_code,
    )


def _moment(milliseconds: int | None) -> str:
    if not milliseconds:
        return ""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")


def _who() -> str:
    user = "somebody"
    with suppress(KeyError, OSError):  # a user without a name
        user = getpass.getuser()
    return f"{user}@{socket.gethostname()}"
