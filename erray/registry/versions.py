"""Model versions: folders of plain files under a name, a number and an alias."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from erray.errors import UserError
from erray.registry.connection import Connection
from erray.registry.runs import Runs

OUTAGE_LIMIT_S = 300.0
PATH_TAG, SHA256_TAG = "erray.artifact_path", "erray.sha256"
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_. -]*"
_URI = re.compile(rf"models:/(?P<name>{_NAME})(@(?P<alias>[\w-]+)|/(?P<version>[1-9][0-9]*))")


@dataclass(frozen=True)
class FetchedModel:
    """A model version on the local disk, its bytes as they were registered."""

    folder: Path
    name: str
    version: str
    run_id: str


class Registry(Runs):
    """The runs of one experiment, and the model versions of its store.

    Args:
        home: folder of the default store and, for a database ``uri``, of the artifacts.
        uri: MLflow tracking URI; None: ``sqlite:///<home>/mlflow.db``. A server (http, https)
            keeps artifacts where it likes.
        experiment: name of the experiment, made when it is missing.
        outage_limit_s: how long a store that answered once may be away before a call fails.
    """

    def __init__(
        self,
        home: Path,
        *,
        uri: str | None = None,
        experiment: str = "erray",
        outage_limit_s: float = OUTAGE_LIMIT_S,
    ) -> None:
        super().__init__(
            Connection(home, uri=uri, experiment=experiment, outage_limit_s=outage_limit_s)
        )

    @property
    def uri(self) -> str:
        """The tracking URI in use; it may hold credentials."""
        return self._connection.uri

    def ui_command(self) -> str:
        """Return the command that shows the runs; for a tracking server, its address."""
        return self._connection.ui_command()

    def register(
        self,
        run_id: str,
        folder: Path,
        *,
        model_name: str,
        alias: str,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Make ``folder`` the next version of ``model_name``, move ``alias`` to it.

        The artifact folder is named by its content: no later version can overwrite it. Metrics
        become tags ``metric.<name>`` of the version. Of two that register at once, each gets its
        own version and the later one the alias.

        Returns:
            The version number.

        Raises:
            UserError: a name or alias that MLflow does not take.
        """
        require_valid_names(model_name, alias)
        client, patiently = self._connection.client, self._connection.patiently
        sha256 = folder_sha256(folder)
        path = f"model/{sha256[:16]}"
        self.log_folder(run_id, folder, path)
        patiently(partial(_create_model, client, model_name))
        run = patiently(partial(client.get_run, run_id))
        all_tags = {
            **{f"metric.{key}": repr(float(value)) for key, value in (metrics or {}).items()},
            **(tags or {}),
            PATH_TAG: path,
            SHA256_TAG: sha256,
        }
        source = f"{run.info.artifact_uri}/{path}"
        create = partial(client.create_model_version, await_creation_for=0)
        created = patiently(partial(create, model_name, source, run_id, tags=all_tags))
        version = str(created.version)
        patiently(partial(_move_alias, client, model_name, alias, version))
        return version

    def fetch(self, model_uri: str, into: Path) -> FetchedModel:
        """Download ``models:/name@alias`` or ``models:/name/version`` to ``into/name-version``.

        A copy that is there with the right content is used as it is.

        Raises:
            UserError: another form of URI, no such model, alias or version (those that exist are
                listed), a version that erray did not register, or content that has changed.
        """
        entry = self._find(model_uri)
        if PATH_TAG not in entry.tags or SHA256_TAG not in entry.tags:
            raise UserError(f"{model_uri}: version {entry.version} was not registered by erray")
        folder = into / f"{entry.name}-{entry.version}"
        if not folder.is_dir() or folder_sha256(folder) != entry.tags[SHA256_TAG]:
            into.mkdir(parents=True, exist_ok=True)
            download = self._connection.client.download_artifacts
            with tempfile.TemporaryDirectory(dir=into, prefix=".fetch-") as scratch:
                get = partial(download, entry.run_id, entry.tags[PATH_TAG], scratch)
                got = Path(self._connection.patiently(get))
                if folder_sha256(got) != entry.tags[SHA256_TAG]:
                    raise UserError(
                        f"{model_uri}: the stored files are not those that were registered "
                        f"(their sha256 differs): register the model again"
                    )
                shutil.rmtree(folder, ignore_errors=True)
                got.rename(folder)
        return FetchedModel(folder, entry.name, str(entry.version), entry.run_id)

    def _find(self, model_uri: str) -> Any:
        match = _URI.fullmatch(model_uri)
        if match is None:
            raise UserError(
                f"model {model_uri!r}: expected models:/name@alias or models:/name/version"
            )
        name, alias, version = match["name"], match["alias"], match["version"]
        client = self._connection.client
        try:
            aliases = client.get_registered_model(name).aliases
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            names = [model.name for model in client.search_registered_models()]
            raise UserError(f"{model_uri}: no model {name!r}; there are: {_list(names)}") from None
        if alias is not None and alias not in aliases:
            raise UserError(f"{model_uri}: no alias {alias!r}; there are: {_list(aliases)}")
        entries = {str(v.version): v for v in client.search_model_versions(f"name='{name}'")}
        wanted = version or str(aliases[alias])
        if wanted not in entries:
            raise UserError(f"{model_uri}: no version {wanted}; there are: {_list(entries)}")
        return entries[wanted]


def require_valid_names(model_name: str, alias: str) -> None:
    """Refuse a model name or alias that could not be registered, before hours of training.

    Raises:
        UserError: characters that ``models:/name@alias`` cannot hold, or a reserved alias.
    """
    if re.fullmatch(_NAME, model_name) is None:
        raise UserError(
            f"model name {model_name!r}: expected letters, digits, space, '_', '.' and '-'"
        )
    reserved = alias.lower() == "latest" or re.fullmatch(r"[vV]\d+", alias)
    if reserved or re.fullmatch(r"[A-Za-z0-9_-]+", alias) is None:
        raise UserError(
            f"alias {alias!r}: expected letters, digits, '_' and '-', not 'latest', not 'v1'"
        )


def folder_sha256(folder: Path) -> str:
    """Return the sha256 of the names and contents of all files below ``folder``."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{content}  {path.relative_to(folder).as_posix()}\n".encode())
    return digest.hexdigest()


def _move_alias(client: MlflowClient, model_name: str, alias: str, version: str) -> None:
    try:
        client.set_registered_model_alias(model_name, alias, version)
    except MlflowException as error:
        if "registered_model_aliases" not in str(error):
            raise
        # another process set the alias for the first time since ours looked; now it is there
        client.set_registered_model_alias(model_name, alias, version)


def _create_model(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
