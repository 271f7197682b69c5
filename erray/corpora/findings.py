"""What the check of a corpus found: as rows of a table, as lines, or as a refusal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from erray.errors import UserError

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong.

    Attributes:
        level: ``error`` or ``warning``.
        code: a word that stays the same.
        count: how many clips, media, groups or classes are concerned, see ``what``.
        what: what they are.
        examples: the first three of them.
        advice: what to do.
    """

    level: str
    code: str
    count: int
    what: str
    examples: tuple[str, ...]
    advice: str

    def words(self) -> str:
        """What is concerned, with examples."""
        more = ", ..." if self.count > len(self.examples) else ""
        return f"{self.what}: {', '.join(self.examples)}{more}" if self.examples else self.what

    def line(self) -> str:
        """The finding in one line."""
        advice = f" - {self.advice}" if self.advice else ""
        return f"{self.code}: {self.count} {self.words()}{advice}"


def refuse_errors(findings: Iterable[Finding]) -> None:
    """Do nothing where there are only warnings.

    Raises:
        UserError: the errors, in one line.
    """
    errors = [finding.line() for finding in findings if finding.level == ERROR]
    if errors:
        raise UserError(f"the corpus has errors: {'; '.join(errors)}")


def about(level: str, code: str, names: Iterable[str], what: str, advice: str) -> Iterator[Finding]:
    """A finding about ``names``; nothing where there are none."""
    found = sorted(names)
    if found:
        yield Finding(level, code, len(found), what, tuple(found[:3]), advice)
