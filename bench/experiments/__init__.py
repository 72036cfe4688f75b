"""Experiments of the papers that are no study of whole runs: exact recursions, ensembles and edges of stability, driven
through the same algorithms and the same simulator. Each gives a table; what it means is decided elsewhere."""
