"""Batch jobs: sbatch scripts from templates, what is particular to a site from a file, and a thin submitter."""
