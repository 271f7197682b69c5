"""A Ray cluster seen from outside: who it lets in, what is sent to it, jobs.

``door`` asks without a token and with one, ``package`` says what of a folder travels, ``jobs``
submits and follows (the only file that knows ray.job_submission).
"""

from erray.cluster.door import Door, job_server, knock
from erray.cluster.package import WorkingFolder, working_folder

__all__ = ["Door", "WorkingFolder", "job_server", "knock", "working_folder"]
