"""What runs on the cluster for a verb that was submitted: ``python -m agesearch.cli.submitted VERSION VERB``.

The job's node has an agesearch of its own, or the one that was sent along; where that is another version than
the one that submitted it, nothing is begun.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from agesearch.provenance import VERSION
from agesearch.remote.packing import FILES


def main() -> None:
    """Run the verb, as the command does."""
    wanted, words = sys.argv[1], sys.argv[2:]
    if wanted != VERSION:
        sys.exit(
            f"error: This cluster has agesearch {VERSION}, and the job was submitted by {wanted}: install "
            "that there, or send it along with 'agesearch submit --code FOLDER'."
        )
    from agesearch.cli.main import run

    sys.argv = ["agesearch", *words]
    # Where nodes share a machine, the next one to take part unpacks the job's folder anew: a process that
    # works in the first one then has no working directory any more, and libraries fail in odd ways.
    with TemporaryDirectory(prefix="agesearch-job-") as folder:
        if Path(FILES).is_dir():
            shutil.copytree(FILES, Path(folder) / FILES)
        os.chdir(folder)
        run()


if __name__ == "__main__":
    main()
