"""A robot whose actuators fail in mid-run, and a policy that follows."""

import gymnasium as gym

import metamap_envs
import metamap_rl

before, after = metamap_envs.get_family("cheetah-actuators").sample("test-in", 2, seed=1)
robot = gym.make("MetaMap/CheetahActuators-v0", task=before, max_episode_steps=400)
env = metamap_rl.AdaptiveEnv(robot, "cheetah-actuators")

observation, _ = env.reset(seed=0)
rewards = []
for step in range(400):
    if step == 200:
        env.unwrapped.set_task(after)  # nobody tells the adapter
    observation, reward, terminated, truncated, info = env.step()  # the adapter acts; env.step(action) takes over
    rewards.append(reward)
    if step % 100 == 99 or step == 210:
        mean = sum(rewards[-10:]) / len(rewards[-10:])
        print(f"step {step + 1}: reward {mean:.2f} a step; {info['belief'].sentence()}")

env.adapter.save("adapter.safetensors")  # to go on later: metamap_rl.Adapter.load
