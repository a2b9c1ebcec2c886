"""From an environment to a mapper in Python: so few steps that nothing is learnt, but all of it is run."""

import gymnasium as gym

import metamap_rl
from metamap_agents.experts.filling import RecipeOverrides, TaskCounts
from metamap_envs import from_gymnasium

family = from_gymnasium(
    {
        "name": "my-pendulum",
        "environment": "Pendulum-v1",
        "parameters": {"gravity": {"argument": "g", "unit": "m/s^2", "train": [5, 15], "out": [2, 5]}},
    }
)
steps = {"n_envs": 4, "n_steps": 50, "batch_size": 100, "n_timesteps": 400}  # leave out for the recipe's own

mapper = metamap_rl.train(
    family,
    "zoo",  # base policy and experts; the same call again goes on from there
    counts=TaskCounts(train=3, validation=2, test_in=2),
    overrides=RecipeOverrides(base=steps, expert=steps),
    recipe=metamap_rl.MapperRecipe(metamap_rl.TrainConfig(updates=20, warmup=2), survey_tasks=16),
    calibration=None,  # no self-check: it takes longer than all the rest here
    workers=1,
)
mapper.save("mapper")

evaluation = metamap_rl.evaluate("mapper", "zoo", lengths=(10,), episodes=2, reference_episodes=2, controls=False)
for scores in evaluation.methods:
    print(f"{scores.method}, {scores.steps} transitions: mean return {scores.returns.mean():.0f}")

policy = metamap_rl.load("mapper").adapt(gym.make("Pendulum-v1", g=7.0), steps=20)
print(policy)
