"""Readers of recordings: the Protocol and the registry are in `base`, every other module holds one format.

A new one is a module with a class that has the attributes of `metamap_rl.data.readers.base.Reader`, registered with
``@READERS.register("name")``. Nothing that a reader opens is unpickled or executed.
"""

from __future__ import annotations

import sys

from metamap_rl.common.registry import load_modules
from metamap_rl.data.readers.base import READERS, Reader, Recording, read_recording

__all__ = ["READERS", "Reader", "Recording", "read_recording"]

load_modules(sys.modules[__name__])
