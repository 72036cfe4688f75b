"""Measures a cluster, so that the simulator can take its place: programs that any transport runs, and their fits."""
