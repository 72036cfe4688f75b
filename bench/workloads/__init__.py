"""Workloads: model, data, loss and held-out set on a flat vector of parameters.

Nothing is imported here, so that `paceline workloads` answers without loading torch; start at `registry`.
"""
