"""Modules by their names of 0.1, and where their names are now; for one release."""

from __future__ import annotations

from metamap_agents.renamed import rename_modules

rename_modules(
    {
        "metamap_agents.base_policy": ("metamap_agents.policy.base",),
        "metamap_agents.building": ("metamap_agents.experts.building",),
        "metamap_agents.distillation": ("metamap_agents.experts.distillation",),
        "metamap_agents.evaluation": ("metamap_agents.policy.evaluation",),
        "metamap_agents.executors": ("metamap_agents.runtime.executors",),
        "metamap_agents.expert": ("metamap_agents.experts.expert",),
        "metamap_agents.functional": ("metamap_agents.policy.functional",),
        "metamap_agents.gains": ("metamap_agents.experts.gains",),
        "metamap_agents.initial": ("metamap_agents.policy.initial",),
        "metamap_agents.machine": ("metamap_agents.runtime.machine",),
        "metamap_agents.normalizer": ("metamap_agents.policy.normalizer",),
        "metamap_agents.off_policy": ("metamap_agents.experts.off_policy",),
        "metamap_agents.parent": ("metamap_agents.experts.universal",),
        "metamap_agents.plateau": ("metamap_agents.experts.plateau",),
        "metamap_agents.policies": ("metamap_agents.policy.acting",),
        "metamap_agents.policy_spec": ("metamap_agents.policy.spec",),
        "metamap_agents.ppo": ("metamap_agents.experts.ppo",),
        "metamap_agents.recipes": ("metamap_agents.experts.recipes",),
        "metamap_agents.recurrent": ("metamap_rl.evaluation.baselines.recurrent",),
        "metamap_agents.rl_zoo": ("metamap_agents.sb3.rl_zoo",),
        "metamap_agents.rowwise": ("metamap_agents.policy.rowwise",),
        "metamap_agents.sb3_bridge": ("metamap_agents.sb3.bridge", "metamap_agents.sb3.export"),
        "metamap_agents.sb3_vec_env": ("metamap_agents.sb3.vec_env",),
        "metamap_agents.sb3_zip": ("metamap_agents.sb3.foreign_zip",),
        "metamap_agents.storage": ("metamap_agents.runtime.storage",),
        "metamap_agents.torch_state": ("metamap_agents.runtime.torch_state",),
        "metamap_agents.training": ("metamap_agents.experts.training",),
        "metamap_agents.zoo": ("metamap_agents.experts.zoo",),
    }
)
