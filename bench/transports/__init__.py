"""The wires: `simulated`, `mpi`, `horovod`. Only `mpi.py` imports mpi4py and only `horovod.py` imports horovod."""
