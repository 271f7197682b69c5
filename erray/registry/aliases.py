"""Aliases such as ``champion``: where they point, every move they made, one move at a time."""

from __future__ import annotations

import fcntl
import getpass
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from erray import interrupt
from erray.credentials import without_credentials
from erray.errors import UserError
from erray.registry.connection import Connection
from erray.registry.names import require_valid_alias
from erray.registry.versions import Version, Versions

OUTAGE_LIMIT_S = 300.0
FIRST, BETTER, FORCED, BACK = "first", "better", "forced", "back"
_MOVE_TAG = "erray.move"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Move:
    """One move of an alias, kept as a tag of the model.

    Attributes:
        to: version that it names since then.
        before: version that it named before; None: it was new.
        how: ``first``, ``better`` (by the paired test), ``forced`` or ``back`` (a rollback).
        why: the test's numbers, or the reason that a person gave.
        who: login name.
        when: UTC, ISO 8601.
    """

    alias: str
    to: str
    before: str | None
    how: str
    why: str
    who: str
    when: str


class Registry(Versions):
    """The runs of one experiment, and the model versions and aliases of its store.

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

    def open(self) -> None:
        """Open the store and its experiment now rather than with the first call.

        Raises:
            UserError: it cannot be opened.
        """
        _ = self._connection.experiment_id

    def ui_command(self) -> str:
        """Return the command that shows the runs; for a tracking server, its address."""
        return self._connection.ui_command()

    @contextmanager
    def patience(self, limit_s: float) -> Iterator[None]:
        """Within the block wait no longer than this for a store that is away."""
        with self._connection.patience(limit_s):
            yield

    @contextmanager
    def deciding(self) -> Iterator[None]:
        """Hold back the other promotions of this home while one is compared and moved.

        Raises:
            UserError: the home cannot be written.
        """
        home = self._connection.home
        try:
            home.mkdir(parents=True, exist_ok=True)
            file = (home / ".promotion.lock").open("w")
        except OSError as error:
            raise UserError(
                f"{home} cannot be written ({error.strerror}): promotions of one home wait for "
                f"each other there, make it writable or set another ERRAY_HOME"
            ) from None
        with file as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def alias(self, model_name: str, alias: str) -> Version | None:
        """The version that an alias names; None where it is not set.

        Raises:
            UserError: no such model, an alias that MLflow does not take.
        """
        require_valid_alias(alias)
        named = [v for v in self.versions(model_name) if alias in v.aliases]
        return named[0] if named else None

    def move_alias(
        self, version: Version, alias: str, *, before: Version | None, how: str, why: str
    ) -> Move:
        """Let ``alias`` name ``version``, and log the move.

        Stores have no test-and-set: promotions of one home wait for each other
        (:meth:`deciding`); of two homes at once the later one wins, the other one is told.

        Args:
            before: the version that the decision was made against.

        Raises:
            UserError: the alias has left ``before`` meanwhile, or was moved elsewhere at once.
        """
        name, client = version.name, self._connection.client
        self._require(name, alias, before, "before this move was made")
        interrupt.check()
        self._connection.patiently(partial(_set_alias, client, name, alias, version.version))
        now = datetime.now(UTC)
        move = Move(
            alias=alias,
            to=version.version,
            before=before.version if before else None,
            how=how,
            why=without_credentials(why),
            who=getpass.getuser(),
            when=now.isoformat(timespec="seconds"),
        )
        key = f"{_MOVE_TAG}.{now:%Y%m%dT%H%M%S.%fZ}-{alias}-{version.version}"
        text = json.dumps(asdict(move), ensure_ascii=False)
        tag = partial(client.set_registered_model_tag, name, key, text)
        self._connection.patiently(tag)
        _log.info("%s@%s: %s", name, alias, text)
        self._require(name, alias, version, "by another promotion at the same time")
        return move

    def moves(self, model_name: str, alias: str | None = None) -> list[Move]:
        """Every move of a model's aliases, or of one, the oldest first.

        Raises:
            UserError: no such model.
        """
        tags = self._model(model_name).tags
        found = [Move(**json.loads(tags[k])) for k in sorted(tags) if k.startswith(_MOVE_TAG)]
        return [move for move in found if alias in (None, move.alias)]

    def before(self, model_name: str, alias: str) -> Version:
        """The version that a rollback of ``alias`` leads to.

        A rollback takes back the last move that no rollback has taken back yet, so that several
        in a row lead further back; versions that were deleted meanwhile are passed over.

        Raises:
            UserError: no such model or alias, or no version before.
        """
        there = {v.version: v for v in self.versions(model_name)}
        current = self.alias(model_name, alias)
        if current is None:
            raise UserError(f"{model_name} has no alias {alias!r}: nothing to roll back")
        named: list[str] = []
        for move in self.moves(model_name, alias):
            if move.how == BACK and move.to in named:
                del named[len(named) - named[::-1].index(move.to) :]
            else:
                named.append(move.to)
        if named and named[-1] == current.version:  # else something else moved it since
            named.pop()
        earlier = [v for v in named if v in there and v != current.version]
        if not earlier:
            raise UserError(
                f"{model_name}@{alias} names version {current.version} and named no other that "
                f"still exists: nothing to roll back to"
            )
        return there[earlier[-1]]

    def _require(self, name: str, alias: str, expected: Version | None, when: str) -> None:
        found = self.alias(name, alias)
        if (found and found.version) != (expected and expected.version):
            _log.warning("%s@%s was moved %s", name, alias, when)
            raise UserError(
                f"{name}@{alias} should name version {expected.version if expected else 'none'}, "
                f"found {found.version if found else 'none'}: it was moved {when}; look with "
                f"`erray registry show` and promote again if need be"
            )


def _set_alias(client: MlflowClient, model_name: str, alias: str, version: str) -> None:
    try:
        client.set_registered_model_alias(model_name, alias, version)
    except MlflowException as error:
        if "registered_model_aliases" not in str(error):
            raise
        # another process set the alias for the first time since ours looked; now it is there
        client.set_registered_model_alias(model_name, alias, version)
