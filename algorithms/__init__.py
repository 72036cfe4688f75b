"""Distributed training algorithms, one file each, written against the handle in `algorithms.interface`.

This package is the innermost ring: it imports torch and itself, nothing else of Paceline. An algorithm never knows
which clock or wire it runs on.
"""
