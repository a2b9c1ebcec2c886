"""Few-shot learning of functions by the same mapper: :class:`FewShotMap`, and families of functions.

Their Protocol is in `base`, the training data in `examples`, tables of a user's own in `arrays`.
"""

from __future__ import annotations

import sys

from metamap_rl.common.registry import load_modules
from metamap_rl.functions.base import FUNCTIONS, FunctionFamily, FunctionFamilyFactory
from metamap_rl.functions.examples import FreshTasks, as_examples, common_start, initial_weights
from metamap_rl.functions.few_shot import FewShotMap
from metamap_rl.functions.fitting import fit

__all__ = [
    "FUNCTIONS",
    "FewShotMap",
    "FreshTasks",
    "FunctionFamily",
    "FunctionFamilyFactory",
    "as_examples",
    "common_start",
    "fit",
    "initial_weights",
]

load_modules(sys.modules[__name__])
