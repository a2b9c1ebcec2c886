"""Check the installation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from metamap_rl.cli.command import Command
from metamap_rl.cli.console import say

if TYPE_CHECKING:
    from metamap_rl.cli.diagnosis import Finding

__all__ = ["COMMANDS", "ORDER", "Doctor"]

ORDER = 90


@dataclass(frozen=True, kw_only=True)
class Doctor(Command):
    """Check the installation: libraries, simulator, rendering, ffmpeg, bundled mappers.

    Exit code 0 if everything essential works, even with warnings; 1 otherwise.
    """

    name: ClassVar[str] = "doctor"

    def next_command(self) -> str | None:
        """See `Command`."""
        return "metamap demo"

    def run(self) -> int:
        """Make all checks, print what was found."""
        from metamap_rl.cli.console import print_json, progress
        from metamap_rl.cli.diagnosis import CHECKS

        findings: list[Finding] = []
        with progress("looking", len(CHECKS), unit="checks") as bar:
            for check in CHECKS:
                findings += check()
                bar.advance()
        errors = [finding for finding in findings if finding.status == "error"]
        if self.json:
            print_json({"healthy": not errors, "findings": findings})
        else:
            _print_findings(findings)
        return 1 if errors else 0


def _print_findings(findings: list[Finding]) -> None:
    """Print the table, then the advice, then the verdict."""
    from metamap_rl.cli.console import print_table

    print_table(("status", "what", "found"), [(finding.status, finding.name, finding.detail) for finding in findings])
    for finding in findings:
        if finding.advice:
            say(f"\n{finding.status}: {finding.name}: {finding.detail}\n  {finding.advice}")
    errors = sum(finding.status == "error" for finding in findings)
    warnings = sum(finding.status == "warning" for finding in findings)
    say(f"\nerrors: {errors}, warnings: {warnings}; {'something essential is broken' if errors else 'ready to work'}")


COMMANDS = (Doctor,)
