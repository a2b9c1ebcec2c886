"""Importers: policies that other tools have trained and stored. `base` has the Protocol and the registry.

Every other module whose name begins with no underscore holds one format; a new one is a module with a class that has
the attributes of `metamap_agents.importers.base.Importer`, registered with ``@IMPORTERS.register("name")``. Nothing of
a file is unpickled or run, but the computation of an ONNX model.
"""

from __future__ import annotations

import sys

from metamap_agents.importers.base import IMPORTERS, ForeignPolicy, Importer, ImportOptions, read_policy
from metamap_agents.runtime.registry import load_modules

__all__ = ["IMPORTERS", "ForeignPolicy", "ImportOptions", "Importer", "read_policy"]

load_modules(sys.modules[__name__])
