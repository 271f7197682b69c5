"""What the scripts in ``jobs/`` do: a command of erray as a job of a Ray cluster."""

from __future__ import annotations

import sys

from erray.cli.main import guarded, main
from erray.run_record import require_absolute_home


def run_job(command: str) -> None:
    """Run ``erray COMMAND`` with this script's arguments.

    A job's working folder is a copy that goes away: ERRAY_HOME must be an absolute folder that all
    nodes share.
    """
    with guarded():
        require_absolute_home()
    main([command, *sys.argv[1:]])
