"""Modules by their names of 0.1, and where their names are now; they stay through 0.2."""

from __future__ import annotations

from metamap_agents.renamed import rename_modules

rename_modules(
    {
        "metamap_rl.ablation": ("metamap_rl.evaluation.ablation",),
        "metamap_rl.ablation_plot": ("metamap_rl.evaluation.ablation_plot",),
        "metamap_rl.alignment": ("metamap_rl.training.alignment",),
        "metamap_rl.artifact": ("metamap_rl.mapper.artifact",),
        "metamap_rl.auxiliary": ("metamap_rl.training.auxiliary",),
        "metamap_rl.baselines": ("metamap_rl.evaluation.baselines",),
        "metamap_rl.beginnings": ("metamap_rl.mapper.beginnings",),
        "metamap_rl.calibration": ("metamap_rl.training.calibration", "metamap_rl.training.config"),
        "metamap_rl.checkpoint": ("metamap_rl.training.checkpoint",),
        "metamap_rl.dataset": ("metamap_rl.data.layout", "metamap_rl.data.examples", "metamap_rl.data.pairs"),
        "metamap_rl.demo_folder": ("metamap_rl.demo.folder",),
        "metamap_rl.drawing": ("metamap_rl.viz.drawing",),
        "metamap_rl.env_spaces": ("metamap_rl.adaptation.env_spaces",),
        "metamap_rl.evaluate": ("metamap_rl.evaluation.evaluate",),
        "metamap_rl.figures": ("metamap_rl.viz.figures", "metamap_rl.evaluation.figures"),
        "metamap_rl.harm": ("metamap_rl.common.harm",),
        "metamap_rl.losses": ("metamap_rl.training.losses",),
        "metamap_rl.mappability": ("metamap_rl.evaluation.predictability",),
        "metamap_rl.oracle": ("metamap_rl.evaluation.privileged",),
        "metamap_rl.pairs": ("metamap_rl.training.from_experts",),
        "metamap_rl.pretrained": ("metamap_rl.adaptation.bundled",),
        "metamap_rl.probe": (
            "metamap_rl.probing.documents",
            "metamap_rl.probing.collecting",
            "metamap_rl.probing.probes",
            "metamap_rl.probing.probes.planned",
            "metamap_rl.probing.probes.touring",
        ),
        "metamap_rl.probes": ("metamap_rl.probing.probes",),
        "metamap_rl.protocol": ("metamap_rl.evaluation.protocol",),
        "metamap_rl.registry": ("metamap_rl.common.registry",),
        "metamap_rl.rollouts": ("metamap_rl.data.rollout_files",),
        "metamap_rl.scales": ("metamap_rl.mapper.scales",),
        "metamap_rl.schedule": ("metamap_rl.common.schedule",),
        "metamap_rl.score_text": ("metamap_rl.evaluation.score_text",),
        "metamap_rl.scores": ("metamap_rl.evaluation.scores",),
        "metamap_rl.selfcheck": ("metamap_rl.mapper.selfcheck",),
        "metamap_rl.statistics": ("metamap_rl.common.statistics", "metamap_rl.common.profiles"),
        "metamap_rl.stream.gradient": ("metamap_rl.stream.learners.gradient",),
        "metamap_rl.stream.learner": ("metamap_rl.stream.learners.base", "metamap_rl.training.config"),
        "metamap_rl.survey": ("metamap_rl.data.survey",),
        "metamap_rl.tour": ("metamap_rl.probing.tour",),
        "metamap_rl.train": (
            "metamap_rl.training.from_family",  # also takes what the loop's `train` takes
            "metamap_rl.training.loop",
            "metamap_rl.training.config",
        ),
        "metamap_rl.usual": ("metamap_rl.training.usual",),
        "metamap_rl.video": ("metamap_rl.viz.video",),
        "metamap_rl.workflow": ("metamap_rl.training.pipeline", "metamap_agents.experts.filling"),
        "metamap_rl.wrappers": ("metamap_rl.adaptation.wrappers",),
    }
)
