"""To and from Stable-Baselines3: policies, vector environments, zip files, hyperparameter notation."""
