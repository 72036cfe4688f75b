"""Probes of a model where it stands: curvature, landscape, noise. Functions of an objective, a point and a probe set.

No MPI here: a probe is given `total`, which sums a vector over the ranks that share its samples.
"""
