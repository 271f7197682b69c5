"""Whose run a folder holds: the file of its recipe, so that two of one name do not share it."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

from erray.errors import UserError
from erray.run_record import RunRecord

_JOB_FOLDER = "_ray_pkg_"  # what Ray unpacks a job's working folder into, anew for every job


@dataclass(frozen=True)
class RecipeFile:
    """A recipe as it was named on the command line.

    Attributes:
        path: absolute; within a job relative to its working folder; of a packaged one its name.
        sha256: of the file; None of a packaged one.
        corpus_root: absolute, as ``root: films`` is another folder elsewhere; None where unknown.
    """

    path: str
    sha256: str | None = None
    corpus_root: str | None = None

    @classmethod
    def of(cls, name_or_file: str, *, corpus_root: str | None = None) -> RecipeFile:
        """The file ``name_or_file``, or the packaged recipe of that name."""
        file = Path(name_or_file)
        root = None if corpus_root is None else str(Path(corpus_root).absolute())
        if file.suffix not in {".yaml", ".yml"}:
            return cls(name_or_file, corpus_root=root)
        path = file.resolve()
        in_job = [i for i, part in enumerate(path.parts) if part.startswith(_JOB_FOLDER)]
        shown = Path(*path.parts[in_job[0] + 1 :]) if in_job else path
        return cls(str(shown), hashlib.sha256(path.read_bytes()).hexdigest(), root)

    def require_own(self, out: Path) -> None:
        """Refuse the folder ``out`` where it holds the run of another recipe.

        A file that was moved, or copied as it is, is the same recipe; so is one that was edited.
        A copy over another corpus is another one.

        Raises:
            UserError: it does.
        """
        other = self._other(out)
        if other is not None:
            raise UserError(
                f"{out} holds the run of {other.path}, and {self.path} has the same name: give it "
                f"another one (`name: ...` in the recipe) or a folder of its own with --out; "
                f"--out {out} goes on in this one"
            )

    def take(self, out: Path) -> str | None:
        """Note in the record of ``out`` that it holds this recipe's run from now on.

        Returns:
            One line where it was another recipe's, else None.
        """
        other = self._other(out)
        if RunRecord.load(out).recipe_file != asdict(self):
            RunRecord.load(out).update(recipe_file=asdict(self))
        return None if other is None else f"{out} held the run of {other.path} until now"

    def _other(self, out: Path) -> RecipeFile | None:
        """The other recipe whose run is in ``out``; None where it is this one's, or nobody's."""
        known = RunRecord.load(out).recipe_file
        if known is None:  # a run of before recipes were noted
            return None
        other, place = RecipeFile(**known), Path(known["path"])
        contents, was_moved = {other.sha256}, False
        if place.is_absolute():  # it may have been edited since
            was_moved = not place.is_file()
            contents |= set() if was_moved else {RecipeFile.of(str(place)).sha256}
        roots = {root for root in (self.corpus_root, other.corpus_root) if root is not None}
        same_content = self.sha256 is not None and self.sha256 in contents and len(roots) < 2
        return None if self.path == other.path or same_content or was_moved else other
