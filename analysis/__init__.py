"""Why one algorithm wins: pure functions from tables to tables (pandas in, pandas out), no plotting, no MPI.

Nothing here reads a file; `bench.records.load` does. Nothing is imported here, so that the command line starts fast.
"""
