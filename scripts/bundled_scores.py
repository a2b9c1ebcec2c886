"""Write the published scores of the bundled mappers beside them, for `metamap families list`.

::

    python scripts/bundled_scores.py
"""

from __future__ import annotations

from pathlib import Path

from _running import run_script
from metamap_agents.runtime.storage import write_json
from metamap_rl.adaptation.bundled import bundled_families
from metamap_rl.common.bundles import SCORES
from metamap_rl.results.bundle_tables import published_evaluations
from metamap_rl.results.family_tables import row_of

RESULTS = Path(__file__).parents[1] / "docs" / "results"


def scores() -> dict[str, float | None]:
    """Gap closed with 50 transitions of the probe on test-in tasks, by family; None where too few tasks have a gap."""
    found = {}
    for name in bundled_families():
        gap = row_of(published_evaluations(name, RESULTS)["probe"], "mapper", 50).get("gap_closed")
        found[name] = None if gap is None else round(float(gap["iqm"]), 2)
    return found


def main() -> None:
    """Write them."""
    write_json(SCORES, scores())


if __name__ == "__main__":
    run_script(main)
