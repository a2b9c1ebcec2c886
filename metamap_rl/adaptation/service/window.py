"""The window of transitions that belong to the present task."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metamap_agents.runtime.torch_state import torch_threads
from metamap_rl.adaptation.service.config import AdapterConfig
from metamap_rl.adaptation.service.evidence import ChangeEvidence
from metamap_rl.adaptation.service.history import History
from metamap_rl.mapper.mapper import Mapper

__all__ = ["Window"]

Floats = NDArray[np.float32]

_DEFAULT_SLIDING = 20


class Window:
    """The latest transitions, from the last change of the task that was found on.

    Args:
        mapper: with a self-check, or the window slides.
        config: settings.
    """

    def __init__(self, mapper: Mapper, config: AdapterConfig) -> None:
        self.config = config
        self.history = History(config.longest_window, mapper.feature_size)
        self.begin = 0
        """Number of stored transitions before the present task."""
        self.given_up = 0
        """Number of stored transitions before those that are mapped, the rest of the window."""
        self.rescues = self.rescued = 0
        """How often transitions were given up, and number of transitions stored when they last were."""
        self.changes = 0
        self.sliding = config.fixed_window or (0 if mapper.check is not None else _DEFAULT_SLIDING)
        """Fixed length, or 0 for a length chosen by evidence."""
        self._evidence = None
        if mapper.check is not None and not self.sliding:
            self._evidence = ChangeEvidence(mapper, mapper.check.surprise, config)

    @property
    def count(self) -> int:
        """Number of transitions stored so far."""
        return self.history.count

    @property
    def length(self) -> int:
        """Length in transitions."""
        longest = min(len(self.history), self.sliding or self.config.longest_window)
        return min(self.count - self.begin, longest)

    @property
    def kept(self) -> int:
        """Length of what is mapped and searched for changes: the window without what was given up."""
        return min(self.length, self.count - self.given_up)

    @property
    def kept_rows(self) -> Floats:
        """Standardised feature rows [kept, F]; a view."""
        return self.history.latest(self.kept)

    @property
    def rows(self) -> Floats:
        """Standardised feature rows [length, F]; a view."""
        return self.history.latest(self.length)

    def age(self, step: int) -> int:
        """Environment steps from the first transition of the window to ``step``, inclusive."""
        return step - int(self.history.steps(self.length)[0]) + 1 if self.length else 0

    def add(self, row: Floats, step: int) -> None:
        """Append a transition."""
        self.history.append(row, step)

    def give_up(self, kept: int) -> None:
        """Keep the latest transitions alone; the window stays as long as it is."""
        self.given_up = max(self.given_up, self.count - kept)
        self.rescues, self.rescued = self.rescues + 1, self.count

    @property
    def since_rescue(self) -> int | None:
        """Transitions since some were last given up; None if that was before the window began."""
        return self.count - self.rescued if self.rescued > self.begin else None

    def begin_anew(self) -> None:
        """Let the window begin with the next transition."""
        self.begin = self.count
        self.changes += 1

    def update(self) -> None:
        """Look for a change of the task, and let the window begin there."""
        if self._evidence is None:
            return
        cuts = self._evidence.due(self.kept, self.count)
        with torch_threads(1):
            found = self._evidence.latest_change(self.kept_rows, cuts)
        if found is not None:
            self.begin = self.count - found
            self.changes += 1
