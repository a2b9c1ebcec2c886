"""What the methods of a run of the protocol have in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from metamap_envs.parameters import Split
from metamap_envs.settings import Settings, Whole
from metamap_rl.evaluation.evaluate import LENGTHS
from metamap_rl.mapper.config import MapperConfig
from metamap_rl.training.config import TrainConfig
from metamap_rl.training.pipeline import PROBE_STEPS, SURVEY_TASKS

__all__ = ["SHARED", "MapperSettings", "SharedSettings"]


class MapperSettings(Settings):
    """How mappers are trained, and the contextual policies and privileged mappers beside them."""

    loss: str = "both"
    updates: Annotated[Whole, Field(ge=1)] = 2000
    survey_tasks: Annotated[Whole, Field(ge=0)] = SURVEY_TASKS
    """Tasks without experts; 0 for none."""
    encoder: str = MapperConfig().encoder
    hypernetwork: str = MapperConfig().hypernetwork
    context_size: Annotated[Whole, Field(ge=2)] = MapperConfig().context_size
    hidden: Annotated[Whole, Field(ge=1)] = MapperConfig().hypernetwork_hidden
    """Width of the hypernetwork."""
    bottleneck: bool = False
    """Whether the hypernetwork sees of z only the task's coordinates; needs a survey. Privileged mappers have none."""

    def shape(self, **changes: Any) -> MapperConfig:
        """The mapper's shape."""
        shared: dict[str, Any] = {
            "encoder": self.encoder,
            "hypernetwork": self.hypernetwork,
            "context_size": self.context_size,
            "hypernetwork_hidden": self.hidden,
            "bottleneck": self.bottleneck,
        }
        return MapperConfig(**{**shared, **changes})

    def training(self, seed: int, **changes: Any) -> TrainConfig:
        """How one is trained."""
        shared: dict[str, Any] = {"loss": self.loss, "steps": self.updates, "seed": seed}
        return TrainConfig(**{**shared, **changes})


class SharedSettings(Settings):
    """What all families, methods and seeds of a run have in common."""

    lengths: tuple[Annotated[Whole, Field(ge=0, le=PROBE_STEPS)], ...] = LENGTHS
    """Steps of D."""
    episodes: Annotated[Whole, Field(ge=1)] = 10
    """For each task and policy, on reset seeds that all share."""
    splits: tuple[str, ...] = (Split.TEST_IN.value, Split.TEST_OUT.value)
    """Tasks to measure on; a split of which a zoo has no expert is left out for its family."""
    probe: str = "base-policy"
    """How D is collected."""
    mapper: MapperSettings = MapperSettings()


SHARED = tuple(SharedSettings.model_fields)
"""Their names."""
