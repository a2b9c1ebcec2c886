"""Ablations of the mapper; configs are in scripts/ablations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metamap_rl.evaluation.ablation import Ablation, summarise
from metamap_rl.evaluation.ablation_plot import plot_ablation
from metamap_rl.results.experiments.base import EXPERIMENTS
from metamap_rl.results.tables import ablation_table
from metamap_rl.viz.figures import save_figure


@EXPERIMENTS.register("ablation")
class AblationExperiment(Ablation):
    """Which part of the mapper does what, on validation tasks: cells that differ from a baseline in one factor."""

    def summary(self, documents: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Rows of settings; and ablation.png, where a task has a gap."""
        rows, middle = summarise(documents.values()), str(self.lengths[len(self.lengths) // 2])
        if any(middle in row["gap_closed"] for row in rows):
            save_figure(plot_ablation(rows, middle, self.family), out / "ablation.png")
        return {"config": self.model_dump(mode="json", exclude={"zoo"}), "rows": rows}

    def table(self, document: Mapping[str, Any]) -> list[str]:
        """One row for each setting."""
        return ablation_table(document)
