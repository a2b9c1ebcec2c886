"""Adaptation in service: a policy acts, its transitions are D, and the mapper replaces it as the task changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metamap_envs.errors import MetaMapError
from metamap_envs.values import one_flag, one_number, read_numbers, shown
from metamap_rl.adaptation.bundled import find_mapper
from metamap_rl.adaptation.service.belief import Belief
from metamap_rl.adaptation.service.config import AdapterConfig
from metamap_rl.adaptation.service.files import OPTIONAL, AdapterState, load_state, mapper_id, save_state
from metamap_rl.adaptation.service.mapping import ServiceMapping
from metamap_rl.adaptation.service.serving import ActionLimits, ServedPolicy, family_of
from metamap_rl.adaptation.service.window import Window
from metamap_rl.data.layout import TransitionLayout
from metamap_rl.mapper.mapper import Mapper, Reading

__all__ = ["Adapter"]

Floats = NDArray[np.float32]

_EXCITATION = 20_261_129  # seed of the noise of a policy that fails

IMPLAUSIBLE = 1e3
"""Standardised features beyond this are of a simulator or sensor that failed, and are not stored."""


class Adapter:
    """A policy for a control loop that follows changes of its task.

    ::

        adapter.reset(observation)
        while running:
            action = adapter.act(observation)
            observation, reward, terminated, truncated = robot.step(action)
            adapter.observe(reward, observation, terminated, truncated)

    It keeps the latest transitions, finds by evidence which of them belong to the present task (`ChangeEvidence`), and
    maps these to a policy when the task has changed or the window has grown. The base policy phi_0 acts before there is
    evidence, and where no policy explains what is observed. Episodes may end in between: a reset is no change of the
    task, and windows go across it; transitions do not.

    Weights are replaced between two steps, as one object. Memory is bounded, and nothing is random: the same calls give
    the same actions, to the bit.

    Without a self-check the mapper has no model of transitions: a sliding window is mapped, and nothing is refused.

    Args:
        mapper: a mapper, its folder, or the name of a family with a bundled one.
        config: settings.

    Raises:
        MetaMapError: a mapper of functions or of spaces that its family has not, or settings that do not fit it.
    """

    def __init__(self, mapper: Mapper | str | Path, config: AdapterConfig | None = None) -> None:
        self.mapper = mapper if isinstance(mapper, Mapper) else find_mapper(mapper)[0]
        if config is not None and not isinstance(config, AdapterConfig):
            raise MetaMapError(f"config: expected an AdapterConfig, got {shown(config)}")
        self.config = config or AdapterConfig()
        self.limits = ActionLimits.of(family_of(self.mapper), self.config)
        self.hold = False
        """Keep the served policy, whatever is observed; observing goes on."""
        self._layout = TransitionLayout.of(self.mapper.base.spec)
        self._mapping = ServiceMapping(self.mapper, self.config)
        self._mean, self._std = (one.cpu().numpy() for one in (self.mapper.feature_mean, self.mapper.feature_std))
        self.forget()

    def __repr__(self) -> str:
        """One line: the family, and what it believes."""
        return f"Adapter({self.mapper.family!r}: {self.belief.sentence()})"

    def forget(self) -> None:
        """Return to the beginning: no history, the base policy."""
        self._window = Window(self.mapper, self.config)
        self._served = self._base = ServedPolicy(self.mapper.base, self.mapper.base.phi, generated=False)
        self._previous: ServedPolicy | None = None  # during a blend
        self._blended = 0
        self._verdict = self._mapping.nothing
        self._step = self._swaps = self._lost = 0
        self._start_episode(None, None)

    def _start_episode(self, observation: Floats | None, last_action: Floats | None) -> None:
        self._observation = observation
        self._last_action = last_action
        self._pending: tuple[Floats, Floats] | None = None
        self._previous = None

    # the control loop -------------------------------------------------------------------------------------------------

    def reset(self, observation: ArrayLike, last_action: ArrayLike | None = None) -> None:
        """Start an episode. History, window and policy are kept: the task is the same until there is other evidence.

        Args:
            observation: first observation [O].
            last_action: action [A] that is in effect now, from which the rate limit starts; default: none.

        Raises:
            MetaMapError: another shape, no numbers, or an action that is not finite.
        """
        if self._pending is not None:
            self._lost += 1
        last = None if last_action is None else self._finite("last_action", last_action)
        self._start_episode(self._read("observation", observation), last)

    def act(self, observation: ArrayLike | None = None) -> Floats:
        """Return the action [A] for an observation [O]; default: the latest that was given.

        With a NaN in the observation the last action is repeated, or without one the action nearest to zero. Called
        twice without `observe`, the step in between is lost: it is not stored.

        Raises:
            MetaMapError: no observation since the end of the episode, or one of another shape or without numbers.
        """
        seen = self._begin_action(observation)
        return self._finish_action(seen, None if seen is None else self._served(seen))

    def observe(
        self,
        reward: float | None,
        next_observation: ArrayLike,
        terminated: bool = False,
        truncated: bool = False,
        *,
        action: ArrayLike | None = None,
        valid: bool = True,
    ) -> None:
        """Store the outcome of the last action and decide which policy acts from now on.

        A step that was not acted in, that is not ``valid``, or with NaN or implausible numbers is not stored.

        Args:
            reward: of the step, NaN if it was lost; None if it cannot be observed, which needs a mapper trained with
                ``reward: false``.
            next_observation: [O], the last one of the episode if it ends, not the first of the next.
            terminated: whether the task ended the episode.
            truncated: whether a time limit ended it.
            action: executed action [A], if it is another than that of `act`.
            valid: False for steps that must not count, as of a simulator that diverged.

        Raises:
            MetaMapError: another shape or type, or no reward for a mapper that uses it; nothing has changed then.
        """
        if reward is None and self.mapper.config.reward:
            raise MetaMapError(
                "observe: reward: expected a number (NaN if it was lost), this mapper uses rewards; for a robot that "
                "cannot observe its reward, train one with reward: false"
            )
        gained = np.nan if reward is None else one_number("reward", reward)
        after = self._read("next_observation", next_observation)
        executed = None if action is None else read_numbers("action", action, self.limits.low.shape)
        terminated, truncated = one_flag("terminated", terminated), one_flag("truncated", truncated)
        valid = one_flag("valid", valid)
        self._step += 1
        pending, self._pending = self._pending, None
        ended = terminated or truncated
        self._observation = None if ended else after
        if executed is not None and np.isfinite(executed).all():
            self._last_action = executed
        if pending is None:
            self._lost += 1
            return
        before, done = pending[0], pending[1] if executed is None else executed
        frozen = terminated and np.array_equal(before, after)  # as a simulator that diverged reports it
        row = self._row(before, done, gained, after)
        if not valid or frozen or row is None:
            self._lost += 1
            return
        self._window.add(row, self._step)
        self._decide()

    def _row(self, before: Floats, action: Floats, reward: float, after: Floats) -> Floats | None:
        """Standardised feature row [F]; None if it is not finite or implausible."""
        with np.errstate(all="ignore"):
            row = self._layout.pack(before[None], action[None], np.array([reward], dtype=np.float32), after[None])[0]
            row = (row - self._mean) / self._std
        if not self.mapper.config.reward:
            row[self._layout.reward] = 0.0
        plausible = np.abs(row) < IMPLAUSIBLE  # False for NaN
        return row if plausible.all() else None

    def task_changed(self) -> None:
        """Tell the adapter that the task changes now: the window begins with the next transition.

        For changes that are known, such as another payload. The served policy acts until the next mapping.
        """
        self._window.begin_anew()

    # acting -----------------------------------------------------------------------------------------------------------

    def _begin_action(self, observation: ArrayLike | None) -> Floats | None:
        """Read the observation; None if it is not finite."""
        if self._pending is not None:
            self._lost += 1
            self._pending = None
        if observation is not None:
            self._observation = self._read("observation", observation)
        if self._observation is None:
            raise MetaMapError("act: expected an observation, the episode has ended or was never reset")
        return self._observation if np.isfinite(self._observation).all() else None

    def _finish_action(self, seen: Floats | None, action: Floats | None) -> Floats:
        """Blend and limit the served policy's action."""
        if seen is None or action is None:
            return self._repeat_action()
        if not np.isfinite(action).all():
            action = self._base(seen)
        action = self.limits.clipped(self._excited(action))
        if self._previous is not None:
            self._blended += 1
            share = np.float32(self._blended / (self.config.blend + 1))
            action = (1 - share) * self.limits.clipped(self._previous(seen)) + share * action
            if self._blended == self.config.blend:
                self._previous = None
        if not np.isfinite(action).all():
            return self._repeat_action()
        self._last_action = self.limits.limited(action, self._last_action)
        self._pending = seen, self._last_action
        return self._last_action.copy()

    def _excited(self, action: Floats) -> Floats:
        """An action with noise after a policy failed: what it does again and again tells little of the task."""
        since = self._window.since_rescue
        if since is None or since >= self.config.rescue or self.hold or not self.config.excitation:
            return action
        noise = np.random.default_rng([_EXCITATION, self._step]).standard_normal(action.shape)
        scale = self.config.excitation * (self.limits.high - self.limits.low) / 2
        return action + (scale * noise).astype(np.float32)

    def _repeat_action(self) -> Floats:
        """The last action; what an operator executed or a reset named may have been outside of the limits."""
        last = np.zeros_like(self.limits.low) if self._last_action is None else self._last_action
        self._last_action = self.limits.clipped(last)
        return self._last_action.copy()

    # deciding ---------------------------------------------------------------------------------------------------------

    def _decide(self) -> None:
        """After a stored transition: update the window, and map it if that is due.

        While a policy is rescued no changes are looked for: what happens then is often far from all that the model of
        transitions was trained on, and the latest transitions alone are mapped anyway.
        """
        if self.hold or not self._mapping.rescuing(self._window):
            self._window.update()
        if not self.hold:
            self._map()

    def _map(self) -> None:
        judged = self._mapping.judged(self._window, self._verdict)
        if judged is None:
            return
        self._verdict, phi = judged
        fallback = bool(self._verdict.review.fallback)
        if fallback or phi is None:
            served = self._base if fallback else self._served
        else:
            served = ServedPolicy(self.mapper.base, phi, generated=True)
        if served is not self._served:
            self._swap(served)

    def _swap(self, served: ServedPolicy) -> None:
        self._swaps += 1
        if self.config.blend:
            self._previous, self._blended = self._served, 0
        self._served = served

    @property
    def generate(self) -> Callable[[Reading], Floats]:
        """Weights [P] for an encoded window: `Mapper.generate`, or a rival's in its place; `save` does not store it."""
        return self._mapping.generate

    @generate.setter
    def generate(self, generate: Callable[[Reading], Floats]) -> None:
        self._mapping.generate = generate

    @property
    def phi(self) -> Floats:
        """Weights [P] of the served policy, on normalised observations; a copy."""
        return self._served.phi.copy()

    @property
    def window(self) -> Floats:
        """Transitions that are believed to belong to the present task: standardised feature rows, a copy [n, F]."""
        return self._window.rows.copy()

    @property
    def belief(self) -> Belief:
        """What the adapter believes now."""
        mapping, review = self._verdict.mapping, self._verdict.review
        return Belief(
            served="generated" if self._served.generated else "base",
            reason=self._reason(),
            parameters=dict(mapping.parameters),
            confidence=review.confidence,
            window=self._window.length,
            age=self._window.age(self._step),
            mapped=mapping.length,
            changes=self._window.changes,
            swaps=self._swaps,
            lost=self._lost,
            rescues=self._window.rescues,
        )

    def _reason(self) -> str:
        if self.hold:
            return "held"
        if not self._window.count:
            return "nothing was observed yet"
        mapped = f"generated from {self._verdict.mapping.length} transitions{self._mapping.remark}"
        return self._verdict.review.fallback or mapped

    def _read(self, name: str, observation: ArrayLike) -> Floats:
        """Own copy of an observation, which may hold NaN."""
        return read_numbers(name, observation, (self._layout.observation_size,))

    def _finite(self, name: str, action: ArrayLike) -> Floats:
        """Own copy of an action.

        Raises:
            MetaMapError: another shape, or not finite.
        """
        found = read_numbers(name, action, self.limits.low.shape)
        if not np.isfinite(found).all():
            raise MetaMapError(f"{name}: expected finite numbers, got {found}")
        return found

    # storage ----------------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Save the state to a ``.safetensors`` file, so that `load` goes on from here to the bit; written atomically.

        Raises:
            MetaMapError: the name does not end in .safetensors, or the file cannot be written.
        """
        window, previous = self._window, self._previous
        state = AdapterState(
            mapper=mapper_id(self.mapper),
            config=self.config,
            verdict=self._verdict,
            hold=bool(self.hold),
            generated=self._served.generated,
            previous_generated=previous is not None and previous.generated,
            blended=self._blended,
            step=self._step,
            swaps=self._swaps,
            lost=self._lost,
            count=window.count,
            begin=window.begin,
            given_up=window.given_up,
            rescues=window.rescues,
            rescued=window.rescued,
            changes=window.changes,
        )
        pending = self._pending or (None, None)
        values = (self._observation, self._last_action, *pending, None if previous is None else previous.phi)
        arrays: dict[str, NDArray[Any]] = {
            name: value for name, value in zip(OPTIONAL, values, strict=True) if value is not None
        }
        held = len(window.history)
        arrays |= {"rows": window.history.latest(held), "steps": window.history.steps(held), "phi": self._served.phi}
        save_state(path, state, arrays)

    @classmethod
    def load(cls, path: str | Path, mapper: Mapper | str | Path) -> Adapter:
        """Load a state written by `save`. No code from the file is executed.

        Args:
            path: the file.
            mapper: the mapper it was saved with; it is not in the file.

        Raises:
            MetaMapError: not such a file, inconsistent content, or of another mapper.
        """
        mapper = mapper if isinstance(mapper, Mapper) else find_mapper(mapper)[0]
        state, arrays = load_state(path, mapper)
        adapter = cls(mapper, state.config)
        adapter._restore(state, arrays)
        return adapter

    def _restore(self, state: AdapterState, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.hold, self._verdict, self._blended = state.hold, state.verdict, state.blended
        self._step, self._swaps, self._lost = state.step, state.swaps, state.lost
        self._window.history.restore(arrays["rows"], arrays["steps"], state.count)
        self._window.begin, self._window.changes, self._window.rescued = state.begin, state.changes, state.rescued
        self._window.given_up, self._window.rescues = state.given_up, state.rescues
        if state.generated:
            self._served = ServedPolicy(self.mapper.base, arrays["phi"], generated=True)
        self._observation, self._last_action = arrays.get("observation"), arrays.get("last_action")
        if "pending_observation" in arrays:
            self._pending = arrays["pending_observation"], arrays["pending_action"]
        if "previous" in arrays:
            self._previous = ServedPolicy(self.mapper.base, arrays["previous"], generated=state.previous_generated)
