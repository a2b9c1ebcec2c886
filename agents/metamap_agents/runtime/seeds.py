"""Where the seeds of each use begin. The values are part of the results: another value draws other numbers.

Uses with the same value draw different things (tasks, reset seeds, noise of probes) or belong to different runs, so
they share no data; where two uses share data on purpose, they share a name. A run's own seeds are usually small.
"""

from __future__ import annotations

__all__ = [
    "ACTOR_TASKS",
    "CALIBRATION_EPISODES",
    "CALIBRATION_TASKS",
    "DAGGER_EPISODES",
    "DISTILLATION_CHOICE",
    "DISTILLATION_EPISODES",
    "EVALUATION_SEED",
    "EXPERT_STATES",
    "GAIN_FINAL",
    "GAIN_SEARCH",
    "META_EXPLORATION",
    "META_TASKS",
    "SERVICE_ROUNDS",
    "STREAM_PROBES",
    "STREAM_STATES",
    "SURVEY_PROBES",
]

ACTOR_TASKS = 9_000_000
"""Tasks whose experts act as wrong experts, where a universal policy gives them."""
EVALUATION_SEED = 1_000_000
"""Reset seeds of evaluation episodes, the same for every policy that is compared."""
EXPERT_STATES = 2_000_000
"""Reset seeds of the episodes whose states experts are cloned on; also where their predictability is measured."""
META_EXPLORATION = 3_200_000
"""Environments that RL^2 explores."""
SURVEY_PROBES = 4_000_000
"""Tasks and probes of surveys."""
DAGGER_EPISODES = 5_000_000
"""Reset seeds of the episodes in which generated policies visit states in training."""
GAIN_SEARCH = 5_000_000
"""Reset seeds of the search for gains."""
STREAM_PROBES = 5_000_000
"""Probes of the tasks that a stream is measured on."""
CALIBRATION_TASKS = 6_000_000
"""Tasks and probes of the self-check's calibration."""
GAIN_FINAL = 6_000_000
"""Reset seeds of the episodes that decide between the last candidates of the search."""
STREAM_STATES = 6_000_000
"""Reset seeds of the episodes whose states a stream's experts are cloned on."""
CALIBRATION_EPISODES = 7_000_000
"""Reset seeds of the self-check's calibration."""
DISTILLATION_EPISODES = 7_000_000
"""Reset seeds of the episodes in which a student visits states."""
META_TASKS = 7_000_000
"""Training tasks of RL^2."""
DISTILLATION_CHOICE = 8_000_000
"""Reset seeds of the episodes that choose among students."""
SERVICE_ROUNDS = 10_000_000
"""Tasks and starts of the rounds of training in which the adapter is in service."""
