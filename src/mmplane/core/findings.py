"""The findings of a `mmplane doctor`: a line for each subject, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """The meaning of a finding for a server here."""

    OK = "ok"
    COULD_BE_BETTER = "could be better"
    WRONG = "WRONG"


@dataclass(frozen=True)
class Finding:
    """One line, and what to do about it unless all is well."""

    subject: str
    found: str
    verdict: Verdict = Verdict.OK
    fix: str = ""


def shown(findings: Iterable[Finding]) -> tuple[str, int]:
    """The text to print, and the command's exit code: 1 if something is wrong."""
    lines, status = [], 0
    for finding in findings:
        lines.append(f"{finding.verdict.value:16} {finding.subject}: {finding.found}")
        if finding.fix:
            lines.append(f"{'':17}-> {finding.fix}")
        if finding.verdict is Verdict.WRONG:
            status = 1
    return "\n".join(lines), status
