"""A tour: a few policies of a family with distant tasks, which a probe runs in turn to explore more than phi_0."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from metamap_agents.runtime.storage import claim_output, load_arrays, save_arrays
from metamap_envs.errors import MetaMapError

if TYPE_CHECKING:
    from metamap_agents.experts.zoo import Zoo

__all__ = ["FORMAT", "Tour", "tour_of"]

FORMAT = "metamap-tour-1"
_FILE = "tour.safetensors"


@dataclass(frozen=True)
class Tour:
    """The policies of a tour, in their order.

    Attributes:
        phis: weights [M, P], float32, of networks of the base policy's shape.
    """

    phis: NDArray[np.float32]

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Arrays by name."""
        return {"phis": self.phis}

    def save(self, directory: str | Path, *, overwrite: bool = False) -> None:
        """Write ``tour.safetensors`` into a folder.

        Raises:
            MetaMapError: the folder holds something already and ``overwrite`` is not set.
        """
        save_arrays(claim_output(directory, overwrite) / _FILE, self.arrays(), {"format": FORMAT})

    @classmethod
    def load(cls, directory: str | Path) -> Tour:
        """Read what :meth:`save` wrote.

        Raises:
            MetaMapError: not a tour's folder, another format, or weights that are not finite.
        """
        path = Path(directory) / _FILE
        if not path.is_file():
            raise MetaMapError(f"{directory}: not a saved tour, there is no {_FILE} in it")
        arrays, metadata = load_arrays(path)
        if metadata.get("format") != FORMAT:
            raise MetaMapError(f"{path}: expected a tour ({FORMAT}), got {metadata.get('format', 'another file')!r}")
        phis = arrays.get("phis")
        if phis is None or phis.ndim != 2 or not len(phis) or phis.dtype != np.float32 or not np.isfinite(phis).all():
            raise MetaMapError(f"{path}: phis: expected finite float32 weights [policies, P]")
        return cls(phis)


def tour_of(zoo: Zoo, stops: int = 4) -> Tour:
    """Choose policies among a zoo's training experts.

    The first is the one whose task is farthest from the mean of all, each next the one whose task is farthest from all
    chosen so far (Gonzalez 1985), in coordinates of unit variance.

    Args:
        zoo: with experts of training tasks.
        stops: M, policies; fewer where the zoo has fewer experts.

    Raises:
        MetaMapError: there are none, or ``stops`` is below 1.
    """
    experts = zoo.experts("train")
    if not experts or stops < 1:
        raise MetaMapError(f"a tour needs at least one stop and one training expert, got {stops} and {len(experts)}")
    places = zoo.family.space.coordinates(np.stack([expert.task.values for expert in experts])).astype(np.float64)
    places = (places - places.mean(axis=0)) / np.maximum(places.std(axis=0), 1e-9)
    distance = np.linalg.norm(places, axis=1)  # from the mean
    chosen: list[int] = []
    for _ in range(min(stops, len(experts))):
        chosen.append(int(distance.argmax()))
        away = np.linalg.norm(places - places[chosen[-1]], axis=1)
        distance = away if len(chosen) == 1 else np.minimum(distance, away)
    return Tour(np.stack([experts[index].phi for index in chosen]))
