"""Ending a job so that nothing which was finished is lost: its study first, then the job."""

from __future__ import annotations

import time

from agesearch.remote.jobs import Job, Jobs

#: Seconds for the driver of a study that has stopped to say what it found.
_LAST_WORDS_S = 120.0


def stop_job(cluster: Jobs, job: Job, seconds: float, *, at_once: bool = False) -> Job:
    """The job once it has ended, or as it is after ``seconds``.

    A study is asked by its own file, from within the cluster, which sees its folder where this machine may
    not. Where there is none, or none yet, the job is told to end as by Ctrl-C: every verb then keeps what it
    has. ``at_once`` does not wait for checkpoints of what runs.
    """
    end = time.monotonic() + seconds
    if job.study and job.state == "RUNNING":
        options = [*(["--now"] if at_once else []), "--wait", f"{seconds:.0f}"]
        asking = cluster.submit(["stop"], [job.study, *options])
        while not (asking.is_over or job.is_over) and time.monotonic() < end:
            asking, job = cluster.wait(asking, 2.0), cluster.find(job.id)
        if job.is_over:
            return job
        if asking.state == "SUCCEEDED":
            job = cluster.wait(job, min(_LAST_WORDS_S, max(0.0, end - time.monotonic())))
        if job.is_over or (not asking.is_over and not at_once):
            return job
    cluster.end(job)
    return cluster.wait(job, max(0.0, end - time.monotonic()))
