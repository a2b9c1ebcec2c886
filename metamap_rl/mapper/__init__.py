"""The mapper: network, config, artifact, self-check.

Names are imported on first use, so that the command line starts quickly.
"""

from __future__ import annotations

from metamap_agents.runtime.lazy import lazy_getattr

__all__ = ["Mapper", "MapperConfig", "SelfCheck", "Verdict"]

_HOME = {
    "Mapper": "metamap_rl.mapper.mapper",
    "MapperConfig": "metamap_rl.mapper.config",
    "SelfCheck": "metamap_rl.mapper.selfcheck",
    "Verdict": "metamap_rl.mapper.selfcheck",
}


__getattr__ = lazy_getattr(globals(), _HOME)
