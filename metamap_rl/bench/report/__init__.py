"""The report of a benchmark: one HTML page, and tables and figures as files."""

from __future__ import annotations

from metamap_rl.bench.report.files import write_files
from metamap_rl.bench.report.page import write_report

__all__ = ["write_files", "write_report"]
