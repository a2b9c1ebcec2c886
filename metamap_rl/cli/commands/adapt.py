"""Make a policy for an unseen task of a mapper's family from a few transitions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from metamap_rl.cli.command import Command, OutPath
from metamap_rl.cli.console import say
from metamap_rl.cli.recordings import RecordingFlags, log_document, print_columns, tell
from metamap_rl.cli.usage import Metavar, Positional

if TYPE_CHECKING:
    import gymnasium as gym

    from metamap_envs.rollout import Rollout
    from metamap_rl.adaptation.log_check import LogCheck
    from metamap_rl.adaptation.one_shot import AdaptedPolicy
    from metamap_rl.data.recordings import Recorded
    from metamap_rl.mapper.mapper import Mapper

__all__ = ["COMMANDS", "ORDER", "Adapt"]

ORDER = 40


@dataclass(frozen=True, kw_only=True)
class Adapt(Command):
    """Make a policy for an unseen task of a mapper's family from a few transitions.

    The environment is one of: a task of the mapper's family (`--parameters`), a Gymnasium environment with the family's
    observations and actions or, of a family declared in YAML, with those of its own environment (`--env`), or a
    recording made elsewhere (`--rollout`), whose columns are compared with those of the mapper's training.
    With `--out` the folder holds policy.safetensors, policy.zip (for `PPO.load` of Stable-Baselines3),
    rollout.safetensors and result.json.
    """

    name: ClassVar[str] = "adapt"

    mapper: Annotated[Positional[str], Metavar("MAPPER")]
    """Folder of the mapper or of `metamap build`, or the name of a bundled mapper."""

    parameters: Annotated[tuple[str, ...], Metavar("NAME=VALUE")] = ()
    """Task to adapt to; other parameters have their defaults."""

    env: Annotated[str | None, Metavar("GYM_ID")] = None
    """Gymnasium environment to adapt to; `module:Id` imports the module first, also from the working directory."""

    env_arg: Annotated[tuple[str, ...], Metavar("NAME=VALUE")] = ()
    """Arguments of the environment's constructor, values as in YAML."""

    rollout: Annotated[Path | None, Metavar("FILE")] = None
    """Recording to adapt to: .safetensors, .csv, .npz, .parquet, .hdf5, or folder of a Minari or LeRobot data set."""

    flags: Annotated[RecordingFlags, "inline"] = field(default_factory=RecordingFlags)

    steps: int | None = None
    """Number of transitions to use; default 50 for a task or an environment, all of a rollout."""

    episodes: int = 10
    """Episodes for measuring base and served policy in a simulator; 0 skips it."""

    check: bool = True
    """Serve the generated policy even if the self-check rejects it; default: serve the base policy then."""

    out: OutPath = None
    """Folder for the results; nothing is written without it."""

    def next_command(self) -> str | None:
        """See `Command`."""
        return f"metamap export {quote(str(self.out))} --to onnx" if self.out else None

    def run(self) -> int:
        """Probe, map, measure, write, print."""
        from metamap_agents.runtime.storage import claim_output
        from metamap_rl.adaptation.bundled import find_mapper
        from metamap_rl.adaptation.one_shot import adapt
        from metamap_rl.cli.console import print_json

        self._check()
        if self.out is not None:
            claim_output(self.out)
        mapper, folder = find_mapper(self.mapper)
        env = self._environment(mapper)
        recorded, log = self._recorded(mapper)
        source = env if recorded is None else recorded.rollout
        assert source is not None, "one of them is given"
        policy = adapt(mapper, source, steps=self.steps, seed=self.seed, check=self.check)
        rollout = policy.rollout
        assert rollout is not None, "it was read just now"
        if self.parameters and env is not None:
            rollout = replace(rollout, task=env.get_wrapper_attr("task"))
        returns = self._returns(policy, rollout, env)
        result = _result(policy, rollout, returns, folder, self.seed)
        if self.out is not None:
            _write(self.out, policy, rollout, result)
        if recorded is not None:
            result["log"] = log_document(recorded, log)
        if self.json:
            print_json(result)
            return 0
        if recorded is not None:
            tell(recorded, log)
        _print_result(policy, result, self.out)
        if log is not None:
            _print_log(log)
        return 0

    def _check(self) -> None:
        """Check the flags before anything is loaded."""
        from metamap_envs.errors import MetaMapError

        given = {"--parameters": self.parameters, "--env": self.env, "--rollout": self.rollout}
        chosen = [flag for flag, value in given.items() if value]
        if len(chosen) != 1:
            raise MetaMapError(
                "adapt: expected one of --parameters NAME=VALUE ... (a task of the mapper's family), --env GYM_ID (an "
                "environment of Gymnasium with its observations and actions), --rollout FILE (recorded "
                f"transitions); got {' and '.join(chosen) or 'none of them'}"
            )
        if self.flags.given and not self.rollout:
            raise MetaMapError("--columns, --units and --mapping need --rollout: they name the columns of a recording")
        if self.env_arg and not self.env:
            raise MetaMapError("--env-arg needs --env: arguments of that environment's constructor")
        if self.episodes < 0:
            raise MetaMapError(f"--episodes: expected 0 or more, got {self.episodes}")

    def _recorded(self, mapper: Mapper) -> tuple[Recorded | None, LogCheck | None]:
        """The recording, and how usual its columns are for the mapper."""
        if self.rollout is None:
            return None, None
        from metamap_rl.adaptation.log_check import check_log
        from metamap_rl.data.recordings import read_rollout

        needed = mapper.config.reward
        recorded = read_rollout(self.rollout, mapper.family, self.flags.read(), needs_rewards=needed)
        return recorded, check_log(mapper, recorded) if len(recorded.rollout) else None

    def _environment(self, mapper: Mapper) -> gym.Env[Any, Any] | None:
        """The environment to probe; None with a given rollout."""
        import gymnasium as gym

        from metamap_envs.from_gymnasium.user_modules import make_by_id
        from metamap_envs.registry import get_family
        from metamap_rl.cli.inputs import read_arguments, read_numbers

        if self.parameters:
            family = get_family(mapper.family)
            task = family.task(read_numbers(self.parameters, "--parameters"))
            return gym.make(family.gym_id, task=task)
        if self.env is None:
            return None
        return make_by_id(self.env, read_arguments(self.env_arg, "--env-arg"), f"--env {self.env}")

    def _returns(
        self, policy: AdaptedPolicy, rollout: Rollout, env: gym.Env[Any, Any] | None
    ) -> dict[str, list[float]] | None:
        """Returns of base and generated policy; None without a simulator or with --episodes 0."""
        from metamap_rl.adaptation.measuring import measure_in_env, measure_on_task

        if not self.episodes:
            return None
        if rollout.task is not None:
            return measure_on_task(policy, rollout.task, self.episodes)
        return None if env is None else measure_in_env(policy, env, self.episodes)


def _result(
    policy: AdaptedPolicy, rollout: Rollout, returns: dict[str, list[float]] | None, mapper: Path, seed: int
) -> dict[str, Any]:
    """Content of result.json."""
    from metamap_agents.runtime.storage import library_versions

    served = policy.adaptation.served
    if returns is not None:
        both = {"base": returns["base"], "served": returns["generated"]}
        returns = both | ({"generated": returns["generated"]} if served == "generated" else {})
    return {
        **vars(policy.adaptation),
        "served": served,
        "sentence": policy.adaptation.sentence(),
        "mapper": str(mapper),
        "task": None if rollout.task is None else rollout.task.to_json(),
        "seed": seed,
        "returns": returns,
        "versions": library_versions(),
    }


def _write(out: Path, policy: AdaptedPolicy, rollout: Rollout, result: dict[str, Any]) -> None:
    """Write all files or none."""
    from metamap_agents.runtime.storage import write_json
    from metamap_rl.common.folders import whole_folder
    from metamap_rl.data.rollout_files import save_rollout

    with whole_folder(out) as folder:
        policy.save(folder / "policy.safetensors")
        policy.save_sb3(folder / "policy.zip")
        save_rollout(folder / "rollout.safetensors", rollout)
        write_json(folder / "result.json", result)


def _print_result(policy: AdaptedPolicy, result: dict[str, Any], out: Path | None) -> None:
    """Print the result."""
    say(f"mapper     {result['mapper']} ({result['family']})")
    if result["task"] is not None:
        parameters = ", ".join(f"{name}={value:.4g}" for name, value in result["task"]["parameters"].items())
        say(f"task       {parameters}")
    for line in policy.explain().splitlines():
        say(line)
    if result["returns"] is not None:
        for name, note in (("base", ""), ("served", f" ({result['served']} policy)")):
            values = result["returns"][name]
            say(f"{name:<10} return {sum(values) / len(values):.1f}{note}, mean of {len(values)} episodes")
    if out is None:
        say("nothing was written; --out DIR keeps the policy")
    else:
        say(f"written    {out}: policy.safetensors, policy.zip, rollout.safetensors, result.json")


def _print_log(log: LogCheck) -> None:
    """Print how usual the columns of a recording are, and those that are not."""
    unusual = [column for column in log.columns if column.remark]
    say(f"columns    {len(log.columns) - len(unusual)} of {len(log.columns)} are as in the mapper's training")
    if unusual:
        print_columns(unusual)


COMMANDS = (Adapt,)
