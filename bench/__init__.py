"""Drives algorithms: owns time, wire, data and recording.

Nothing is imported here, so that `paceline --help` answers without loading torch or MPI.
"""
