"""Model versions: folders of plain files under a name and a number."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from erray import interrupt
from erray.errors import UserError
from erray.registry.names import parse_model_uri, require_valid_name
from erray.registry.runs import Runs

PATH_TAG, SHA256_TAG = "erray.artifact_path", "erray.sha256"


@dataclass(frozen=True)
class Version:
    """A model version as the store describes it.

    Attributes:
        aliases: those that name it, sorted.
        made_s: when it was registered, seconds since 1970.
        tags: what it was registered with (scores, fingerprints, the hash of its files).
    """

    name: str
    version: str
    run_id: str
    made_s: float
    aliases: tuple[str, ...]
    tags: dict[str, str]

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.version}"

    @property
    def called(self) -> str:
        """What people call it: numbers begin anew with every model."""
        return f"{self.name} version {self.version}"


@dataclass(frozen=True)
class FetchedModel:
    """A model version on the local disk, its bytes as they were registered."""

    folder: Path
    name: str
    version: str
    run_id: str


class Versions(Runs):
    """The versions of a store's models."""

    def register(
        self,
        run_id: str,
        folder: Path,
        *,
        model_name: str,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Version:
        """Make ``folder`` the next version of ``model_name``; no alias moves.

        The artifact folder is named by its content: no later version can overwrite it. Metrics
        become tags ``metric.<name>`` of the version. Of two that register at once, each gets its
        own version.

        Raises:
            UserError: a name that MLflow does not take.
        """
        interrupt.check()
        require_valid_name(model_name)
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
        interrupt.check()  # the upload may have taken long
        create = partial(client.create_model_version, await_creation_for=0)
        created = patiently(partial(create, model_name, source, run_id, tags=all_tags))
        return _version(created, {})

    def fetch(self, model_uri: str, into: Path) -> FetchedModel:
        """Download ``models:/name@alias`` or ``models:/name/version`` to ``into/name-version``.

        A copy that is there with the right content is used as it is.

        Raises:
            UserError: another form of URI, no such model, alias or version (those that exist are
                listed), a version that erray did not register, content that is gone or has changed.
        """
        entry = self.find(model_uri)
        if PATH_TAG not in entry.tags or SHA256_TAG not in entry.tags:
            raise UserError(f"{model_uri}: version {entry.version} was not registered by erray")
        folder = into / f"{entry.name}-{entry.version}"
        if not folder.is_dir() or folder_sha256(folder) != entry.tags[SHA256_TAG]:
            self._require_files(model_uri, entry)
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
        return FetchedModel(folder, entry.name, entry.version, entry.run_id)

    def _require_files(self, model_uri: str, entry: Version) -> None:
        place = self._connection.place_of(entry.run_id)
        if place is not None and not (place / entry.tags[PATH_TAG]).is_dir():
            raise UserError(
                f"{model_uri}: no files in {place / entry.tags[PATH_TAG]}: put them back, or "
                f"register the model again"
            )

    def find(self, model_uri: str) -> Version:
        """The version that ``models:/name@alias`` or ``models:/name/version`` names.

        Raises:
            UserError: another form of URI; no such model, alias or version (those that exist are
                listed).
        """
        name, alias, number = parse_model_uri(model_uri)
        entries = {entry.version: entry for entry in self.versions(name)}
        aliases = {alias: entry for entry in entries.values() for alias in entry.aliases}
        if alias is not None and alias not in aliases:
            raise UserError(
                f"{model_uri}: no alias {alias!r}; there are: {_list(aliases)}; `erray registry "
                f"promote models:/{name}/NUMBER --alias {alias}` sets it"
            )
        if alias is None and number not in entries:
            raise UserError(
                f"{model_uri}: no version {number}; there are: {_list(entries)}; `erray registry "
                f"list {name}` shows them"
            )
        return entries[number] if alias is None else aliases[alias]

    def versions(self, model_name: str) -> list[Version]:
        """Every version of a model, the oldest first.

        Raises:
            UserError: no such model (those that exist are listed).
        """
        client = self._connection.client
        aliases = self._model(model_name).aliases
        found = client.search_model_versions(f"name='{model_name}'")
        return sorted((_version(v, aliases) for v in found), key=lambda v: int(v.version))

    def model_names(self) -> list[str]:
        """Names of every model in the store, sorted."""
        names: list[str] = []
        token: str | None = None
        while True:
            page = self._connection.client.search_registered_models(page_token=token)
            names += [model.name for model in page]
            token = page.token
            if not token:
                return sorted(names)

    def versions_of_run(self, run_id: str) -> list[Version]:
        """Versions made of a run or of a run below it, the oldest first of each model.

        Raises:
            UserError: no such run.
        """
        client = self._connection.client
        experiment = self.run_facts(run_id).experiment_id
        below = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run_id}'")
        runs = [run_id, *(run.info.run_id for run in below)]
        found = [v for run in runs for v in client.search_model_versions(f"run_id='{run}'")]
        aliases = {name: self._model(name).aliases for name in {v.name for v in found}}
        versions = [_version(v, aliases[v.name]) for v in found]
        return sorted(versions, key=lambda v: (v.name, int(v.version)))

    def _model(self, name: str) -> RegisteredModel:
        require_valid_name(name)
        try:
            return self._connection.client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            there = _list(self.model_names())
            raise UserError(
                f"no model {name!r}; there are: {there}; `erray train` registers one under its "
                f"recipe's tracking.model_name"
            ) from None


def folder_sha256(folder: Path) -> str:
    """Return the sha256 of the names and contents of all files below ``folder``."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{content}  {path.relative_to(folder).as_posix()}\n".encode())
    return digest.hexdigest()


def _version(entry: ModelVersion, aliases: Mapping[str, Any]) -> Version:
    """The version with those of the model's aliases (to version numbers) that name it."""
    number = str(entry.version)
    return Version(
        name=entry.name,
        version=number,
        run_id=entry.run_id or "",
        made_s=entry.creation_timestamp / 1000,
        aliases=tuple(sorted(a for a, v in aliases.items() if str(v) == number)),
        tags=dict(entry.tags),
    )


def _create_model(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
