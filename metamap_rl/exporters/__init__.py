"""Exporters: policies, mappers and recordings as files of other tools. `base` has the Protocol and the registry.

Every other module holds one format; a new one is a module with a class that has the attributes of
`metamap_rl.exporters.base.Exporter`, registered with ``@EXPORTERS.register("name")``.
"""

from __future__ import annotations

import sys

from metamap_rl.common.registry import load_modules
from metamap_rl.exporters.base import EXPORTERS, Exporter, export

__all__ = ["EXPORTERS", "Exporter", "export"]

load_modules(sys.modules[__name__])
