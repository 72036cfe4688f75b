"""The private cluster as ReFrame sees it: once with srun as the launcher, once where Paceline starts its own ranks."""

site_configuration = {
    "systems": [
        {
            "name": "private",
            "hostnames": [".*"],
            "partitions": [
                {
                    "name": name,
                    "scheduler": "squeue",  # Slurm without accounting
                    "launcher": launcher,
                    "environs": ["builtin"],
                    "env_vars": [["SLURM_MPI_TYPE", "pmix"]],
                    "access": ["--partition=all"],
                    "sched_options": {"use_nodes_option": False},
                }
                for name, launcher in (("ranks-by-srun", "srun"), ("ranks-by-paceline", "local"))
            ],
        }
    ]
}
