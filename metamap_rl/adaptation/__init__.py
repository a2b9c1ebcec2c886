"""Adaptation of a policy to a new environment, and the bundled mappers.

Names are imported on first use, so that the command line starts quickly.
"""

from __future__ import annotations

from metamap_agents.runtime.lazy import lazy_getattr

__all__ = [
    "Adaptation",
    "AdaptationCallback",
    "AdaptedPolicy",
    "adapt",
    "bundled_families",
    "find_mapper",
    "load",
    "load_mapper",
    "measure_in_env",
    "measure_on_task",
]

_HOME = {
    "Adaptation": "metamap_rl.adaptation.record",
    "AdaptationCallback": "metamap_rl.adaptation.sb3_callback",
    "AdaptedPolicy": "metamap_rl.adaptation.one_shot",
    "adapt": "metamap_rl.adaptation.one_shot",
    "bundled_families": "metamap_rl.adaptation.bundled",
    "find_mapper": "metamap_rl.adaptation.bundled",
    "load": "metamap_rl.adaptation.bundled",
    "load_mapper": "metamap_rl.adaptation.bundled",
    "measure_in_env": "metamap_rl.adaptation.measuring",
    "measure_on_task": "metamap_rl.adaptation.measuring",
}


__getattr__ = lazy_getattr(globals(), _HOME)
