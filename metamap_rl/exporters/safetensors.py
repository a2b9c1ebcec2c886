"""Named layers as safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from metamap_agents.runtime.storage import save_arrays
from metamap_rl.adaptation.plain import PlainPolicy
from metamap_rl.exporters.base import EXPORTERS

__all__ = ["Safetensors"]


@EXPORTERS.register("safetensors")
class Safetensors:
    """``layers.<i>.weight`` [out, in] and ``layers.<i>.bias`` [out] on raw observations, float32.

    ``action_low`` and ``action_high`` [A] are the range of actions; family and activation are in the metadata.
    """

    suffix: ClassVar[str] = ".safetensors"
    writes: ClassVar[tuple[type, ...]] = (PlainPolicy,)

    def __call__(self, source: Any, path: Path) -> None:
        """See `metamap_rl.exporters.base.Exporter`."""
        policy: PlainPolicy = source
        low, high = policy.bounds
        arrays = {"action_low": low, "action_high": high}
        for index, (weight, bias) in enumerate(policy.layers()):
            arrays |= {f"layers.{index}.weight": weight, f"layers.{index}.bias": bias}
        about = {"family": policy.family, "activation": policy.spec.activation, "title": policy.title}
        save_arrays(path, arrays, {"format": "metamap-layers-1", **about})
