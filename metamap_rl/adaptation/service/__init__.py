"""Adaptation in service: a policy in a control loop that follows changes of its task.

Names are imported on first use, so that the command line starts quickly.
"""

from __future__ import annotations

from metamap_agents.runtime.lazy import lazy_getattr

__all__ = ["Adapter", "AdapterConfig", "AdaptiveEnv", "AdaptivePolicy", "Belief", "VectorAdapter"]

_HOME = {
    "AdaptiveEnv": "metamap_rl.adaptation.service.env",
    "AdaptivePolicy": "metamap_rl.adaptation.service.sb3",
    "Adapter": "metamap_rl.adaptation.service.adapter",
    "AdapterConfig": "metamap_rl.adaptation.service.config",
    "Belief": "metamap_rl.adaptation.service.belief",
    "VectorAdapter": "metamap_rl.adaptation.service.vector",
}


__getattr__ = lazy_getattr(globals(), _HOME)
