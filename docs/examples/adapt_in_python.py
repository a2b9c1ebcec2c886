"""A policy for an unseen task, from 50 transitions and a bundled mapper."""

import gymnasium as gym

import metamap_envs  # noqa: F401  # registers the MetaMap/...-v0 environments
import metamap_rl

mapper = metamap_rl.load("cheetah-velocity")  # or the folder of a mapper of your own
env = gym.make("MetaMap/CheetahVelocity-v0", parameters={"target_velocity": 2.2})  # the mapper does not know it

policy = mapper.adapt(env, steps=50)
print(policy)
print(policy.explain())

returns = metamap_rl.measure_in_env(policy, env, episodes=3)
print({name: round(sum(values) / len(values), 1) for name, values in returns.items()})

observation, _ = env.reset(seed=0)
action, _ = policy.predict(observation)  # as in Stable-Baselines3
policy.save("policy.safetensors")  # metamap_rl.AdaptedPolicy.load reads it
policy.save_sb3("policy.zip")  # stable_baselines3.PPO.load reads it
