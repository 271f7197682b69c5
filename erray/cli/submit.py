"""A job of the working folder on a cluster that lets in nobody without its token."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from erray.cli.display import print_json, print_plainly, results, say_plainly
from erray.cli.options import JsonOption
from erray.credentials import has_secret
from erray.errors import UserError
from erray.interrupt import Interrupted
from erray.run_record import COMMIT_VARIABLE, git_commit

if TYPE_CHECKING:
    from erray.cluster import Door, WorkingFolder
    from erray.cluster.jobs import Jobs

LOCK = "requirements.lock"
_WORKING_DIR = "${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}"  # filled in by Ray on every node

JobArgument = Annotated[str, typer.Argument(help="A script of jobs/ by name, such as pipeline.")]
PassedArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[-- ARGS]", help="Arguments of the job, after --.")
]
AddressOption = Annotated[
    str | None,
    typer.Option("--address", help="http://host:port; if left out, RAY_API_SERVER_ADDRESS."),
]
FolderOption = Annotated[Path, typer.Option("--working-dir", help="Folder that travels.")]
PythonOption = Annotated[
    str | None,
    typer.Option(
        "--python",
        help="Python of the nodes that has erray's packages; if left out, Ray installs those of "
        "requirements.lock on the nodes.",
    ),
]
EnvOption = Annotated[
    list[str] | None,
    typer.Option("--env", metavar="NAME[=VALUE]", help="Variable of the job; repeatable."),
]
FollowOption = Annotated[bool, typer.Option(help="Show the job's log and end with its exit code.")]
InsecureOption = Annotated[
    bool, typer.Option("--insecure", help="Also to a cluster that strangers can reach.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be sent; connect to nothing.")
]


def submit(
    job: JobArgument,
    arguments: PassedArgument = None,
    address: AddressOption = None,
    working_dir: FolderOption = Path(),
    python: PythonOption = None,
    env: EnvOption = None,
    follow: FollowOption = True,
    insecure: InsecureOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Send a job to a Ray cluster, follow its log, end with its exit code."""
    from erray.cluster import job_server, knock, working_folder

    _refuse_secrets(arguments or [])
    folder = working_folder(working_dir)
    entrypoint = _entrypoint(folder, job, python, arguments or [])
    environment = _environment(folder, python, env or [])
    server = job_server(address)
    if dry_run:
        _show(server, folder, entrypoint, environment, as_json=as_json)
        return
    door = knock(server)
    _judge(door, insecure=insecure)
    _run(door, folder, entrypoint, environment, follow=follow, as_json=as_json)


def _run(
    door: Door,
    folder: WorkingFolder,
    entrypoint: str,
    environment: dict[str, Any],
    *,
    follow: bool,
    as_json: bool,
) -> None:
    from erray.cluster.jobs import Jobs

    jobs = Jobs(door)
    name = jobs.submit(entrypoint, folder, environment)
    print_plainly(f"job {name}: {len(folder.files)} files, {folder.num_bytes / 1e6:.1f} MB sent")
    code = None
    if follow:
        code = _follow(jobs, name)
    if as_json:
        print_json({"job": name, "address": door.address, "exit_code": code})
    if code:
        raise typer.Exit(code)


def _follow(jobs: Jobs, name: str) -> int:
    try:
        jobs.follow(name, _write)
    except KeyboardInterrupt:
        raise Interrupted(
            f"the job goes on: 'ray job logs {name} --follow', 'ray job stop {name}'"
        ) from None
    code, end = jobs.exit_code(name)
    print_plainly(f"job {name} {end}")
    return code


def _write(text: str) -> None:
    """The job's log, its results among its notes, as a result of this command."""
    results.file.write(text)
    results.file.flush()


def _judge(door: Door, *, insecure: bool) -> None:
    """Refuse a door that is open, and a cluster on which the packages would not fit."""
    from importlib.metadata import version

    for fault in door.faults():
        if not insecure:
            raise UserError(
                f"{fault.found}: {fault.advice}, or submit all the same with --insecure"
            )
        say_plainly(f"warning: {fault.found}: {fault.advice}")
    if door.ray_version != version("ray"):
        raise UserError(
            f"expected Ray {version('ray')} on the cluster, found {door.ray_version}: start it "
            f"from this {LOCK}"
        )


def _refuse_secrets(arguments: list[str]) -> None:
    """Refuse what the job's command would show; the argument itself is not in the message."""
    for number, argument in enumerate(arguments, start=1):
        if has_secret(argument):
            raise UserError(
                f"argument {number} after -- holds a password in a URL, and everybody on the "
                f"cluster reads a job's command: leave it out, and give --env PGPASSWORD=... for "
                f"PostgreSQL or --env MLFLOW_TRACKING_PASSWORD=... for MLflow"
            )


def _entrypoint(folder: WorkingFolder, job: str, python: str | None, arguments: list[str]) -> str:
    script = f"jobs/{job}.py"
    if script not in folder.files:
        there = [Path(name).stem for name in folder.files if Path(name).parent == Path("jobs")]
        raise UserError(
            f"expected a job of {folder.root}/jobs, found {job!r}; "
            f"there are {', '.join(there) or 'none: name the right --working-dir'}"
        )
    return shlex.join([python or "python", script, *arguments])


def _environment(folder: WorkingFolder, python: str | None, variables: list[str]) -> dict[str, Any]:
    """The runtime environment without its working folder: variables, and the lock's packages."""
    given = dict(_variable(text) for text in variables)
    commit = git_commit(folder.root)  # what travels has no .git
    noted = {} if commit is None else {COMMIT_VARIABLE: commit}
    environment: dict[str, Any] = {"env_vars": noted | given}
    if python is not None:
        return environment
    if LOCK not in folder.files:
        raise UserError(
            f"expected {LOCK} in {folder.root}, found none: add it, or name with --python a "
            f"Python of the nodes that has the packages"
        )
    packages = [f"-r {_WORKING_DIR}/{LOCK}"]
    environment["uv"] = {"packages": packages, "uv_pip_install_options": ["--require-hashes"]}
    return environment


def _variable(given: str) -> tuple[str, str]:
    """``NAME=VALUE``, or ``NAME`` with the value that it has here."""
    name, equals, value = given.partition("=")
    if name.startswith("RAY_AUTH_"):
        raise UserError(f"--env {name}: the job has the cluster's token already, leave it out")
    if not equals and name not in os.environ:
        raise UserError(f"--env {name}: expected NAME=VALUE or a variable that is set here")
    return name, value if equals else os.environ[name]


def _show(
    server: str,
    folder: WorkingFolder,
    entrypoint: str,
    environment: dict[str, Any],
    *,
    as_json: bool,
) -> None:
    """What would be sent; of variables the names alone, as a value may be a secret."""
    plan: dict[str, Any] = {
        "address": server,
        "entrypoint": entrypoint,
        "working_dir": str(folder.root),
        "num_files": len(folder.files),
        "num_bytes": folder.num_bytes,
        "largest": dict(folder.largest(5)),
        "variables": sorted(environment["env_vars"]),
        "packages": environment.get("uv", "those of the Python that --python names"),
    }
    if as_json:
        print_json({**plan, "files": list(folder.files)})
        return
    for name in folder.files:
        print_plainly(name)
    for key, value in plan.items():
        print_plainly(f"{key}: {value}")
    say_plainly("dry run: nothing was sent")
