"""TensorBoard output of a stream, optional."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metamap_agents.runtime.storage import make_folder
from metamap_envs.errors import MetaMapError
from metamap_rl.stream.events import OnStream, StageDone, StreamEvent

__all__ = ["tensorboard"]

_NUMBERS = ("generated_return", "base_return", "expert_return", "confidence", "expert_steps", "memory_bytes")


@contextmanager
def tensorboard(folder: Path) -> Iterator[OnStream]:
    """Make a callback that writes events as scalars, one step per stage.

    Args:
        folder: folder of the event files.

    Raises:
        MetaMapError: tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MetaMapError("tensorboard: true needs TensorBoard: pip install 'metamap-rl[tensorboard]'") from None
    writer = SummaryWriter(str(make_folder(folder)))

    def watch(event: StreamEvent) -> None:
        if not isinstance(event, StageDone):
            return
        numbers = {f"stage/{name}": getattr(event.row, name) for name in _NUMBERS}
        numbers |= {f"score/{name}": number for name, number in vars(event.scores).items()}
        numbers |= {f"seconds/{name}": number for name, number in event.timings.items()}
        for name, number in numbers.items():
            if number is not None:
                writer.add_scalar(name, number, event.row.stage)
        writer.flush()

    try:
        yield watch
    finally:
        writer.close()
