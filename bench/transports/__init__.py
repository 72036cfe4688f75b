"""The wires: `simulated`, `mpi`, `horovod`. mpi4py is imported by `mpi.py`, `mpi_world.py` and `horovod.py` alone, and
horovod by `horovod.py` alone."""
