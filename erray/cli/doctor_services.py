"""What the doctor finds beyond this machine: object storage, cluster, tracking; and a recipe."""

from __future__ import annotations

import os
import socket
import sqlite3
from contextlib import closing
from dataclasses import astuple
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from erray.cli.doctor_machine import FAILURE, OK, WARNING, Check
from erray.config import Recipe
from erray.credentials import without_credentials
from erray.errors import UserError
from erray.run_record import erray_home

_TIMEOUT_S = 10.0
_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306}


def check_recipe(recipe: Recipe) -> Check:
    """Whether every stage of the recipe can be set up here: its weights and models are there."""
    from erray.plan import Plan

    try:
        stages = Plan(recipe).fingerprints
    except UserError as error:
        return Check("recipe", FAILURE, str(error))
    return Check("recipe", OK, f"{recipe.name}: {', '.join(stages)}")


def check_storage(tables: str | None) -> Check:
    """Write, and remove, a small file in the object storage of ``tables``, if that is a URL."""
    from erray.store.folder import Folder

    if tables is not None and "://" in tables:
        shown = without_credentials(tables)
        try:
            Folder(tables).check_writable()
        except UserError as error:
            advice = "check extract.tables and the storage's credentials"
            return Check("storage", FAILURE, without_credentials(str(error)), advice)
        return Check("storage", OK, f"{shown} can be written")
    try:
        return Check("storage", OK, f"s3fs {version('s3fs')}, no URL given to try")
    except PackageNotFoundError:
        advice = "only tables in s3:// need it: the extra erray[s3]"
        return Check("storage", WARNING, "no s3fs", advice)


def check_cluster(address: str | None) -> Check:
    """Who the cluster lets in; without an address, a head of this machine if one listens."""
    from erray.cluster import job_server, knock
    from erray.cluster.door import ADDRESS_VARIABLE, DASHBOARD_PORT, listening

    if not address and not os.environ.get(ADDRESS_VARIABLE):
        if not listening(DASHBOARD_PORT):
            return Check("cluster", OK, "none given: a step starts a Ray on this machine")
        address = f"http://127.0.0.1:{DASHBOARD_PORT}"
    try:
        door = knock(job_server(address))
    except UserError as error:
        return Check("cluster", FAILURE, str(error))
    faults = door.faults()
    if faults:
        found, advice = ("; ".join(part) for part in zip(*map(astuple, faults), strict=True))
        return Check("cluster", FAILURE, found, advice)
    found = f"{door.address} asks for the token, Ray {door.ray_version}"
    if door.ray_version != version("ray"):
        advice = f"here it is {version('ray')}: start the cluster from this requirements.lock"
        return Check("cluster", FAILURE, found, advice)
    return Check("cluster", OK, found)


def check_tracking(uri: str | None) -> Check:
    """Whether the tracking store answers; touches nothing. None: SQLite in the home."""
    uri = uri or f"sqlite:///{erray_home() / 'mlflow.db'}"
    shown = without_credentials(uri)
    scheme = urlsplit(uri).scheme.partition("+")[0]
    if scheme in {"http", "https"}:
        return _tracking_server(uri.rstrip("/"), shown)
    if scheme == "sqlite":
        return _sqlite(Path(uri.removeprefix("sqlite:///")), shown)
    parts = urlsplit(uri)
    port = parts.port or _DATABASE_PORTS.get(scheme)
    if parts.hostname is None or port is None:
        advice = "set tracking.uri to http(s)://, sqlite:///, postgresql:// or mysql://"
        return Check("tracking", FAILURE, f"cannot tell where {shown} is", advice)
    try:
        with socket.create_connection((parts.hostname, port), timeout=_TIMEOUT_S):
            return Check("tracking", OK, f"{parts.hostname}:{port} answers (not logged in)")
    except OSError as error:
        advice = "start the database, or correct tracking.uri"
        return Check("tracking", FAILURE, f"{shown}: {error.strerror or error}", advice)


def _tracking_server(uri: str, shown: str) -> Check:
    advice = "start the server, or correct tracking.uri"
    try:
        answer = requests.get(f"{uri}/version", timeout=_TIMEOUT_S, **_credentials())
    except requests.RequestException as error:
        return Check("tracking", FAILURE, f"{shown}: {type(error).__name__}", advice)
    if answer.status_code in {401, 403}:
        advice = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or _TOKEN"
        return Check("tracking", FAILURE, f"{shown} refuses this user", advice)
    there = answer.text.strip()
    if not answer.ok or not there[:1].isdigit():
        return Check("tracking", FAILURE, f"{shown}: no MLflow answers there", advice)
    if there.split(".")[0] != version("mlflow").split(".")[0]:
        advice = f"here it is {version('mlflow')}: run the same major version"
        return Check("tracking", WARNING, f"{shown}, MLflow {there}", advice)
    return Check("tracking", OK, f"{shown}, MLflow {there}")


def _credentials() -> dict[str, Any]:
    """What MLflow's client sends, from the variables it reads."""
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    if user:
        return {"auth": (user, os.environ.get("MLFLOW_TRACKING_PASSWORD", ""))}
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return {"headers": {"Authorization": f"Bearer {token}"}} if token else {}


def _sqlite(path: Path, shown: str) -> Check:
    if not path.exists():
        return Check("tracking", OK, f"{shown}, made by the first run")
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as store:
            (num_runs,) = store.execute("select count(*) from runs").fetchone()
    except (sqlite3.Error, ValueError) as error:
        advice = "restore the file from a copy, or set another ERRAY_HOME"
        return Check("tracking", FAILURE, f"{shown}: {error}", advice)
    return _moved(path.parent, shown) or Check("tracking", OK, f"{shown}, {num_runs} runs")


def _moved(home: Path, shown: str) -> Check | None:
    """A warning where the store names files of another home, None where it does not."""
    from erray.registry.home import ARTIFACTS, former_homes

    for former in former_homes(home):
        found = f"{shown} was made in {former.path.parent}"
        advice = "the next command that opens it changes its addresses to this home"
        if not former.has_moved:
            advice = f"its files are still there: cp -r {former.path} {home / ARTIFACTS}"
        elif former.num_left:
            advice += f"; the files of {former.num_left} runs are there alone, copy them too"
        return Check("tracking", WARNING, found, advice)
    return None
