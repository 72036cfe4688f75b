"""What asynchrony does to training, measured: staleness against queueing theory, and the momentum it brings.

`server` is the model system that the theory speaks of, `waiting` says how stale its gradients are, `law` how far
measured staleness is from that. Implicit momentum is measured by `sensor` (one run without gradient noise), `ensemble`
(many seeds) and `mean_path` (the mean path against its oracles); `tuning` finds the best explicit momentum in a grid of
runs. `measured` puts the ways side by side, `recorded` takes what a real run wrote down.
"""
