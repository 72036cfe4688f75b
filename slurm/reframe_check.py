"""Paceline as a regression test of a machine, for the stock ReFrame (pip install ReFrame-HPC, 4.x), on any system.

    reframe -C SETTINGS.py -c slurm/reframe_check.py -r --performance-report
    reframe ... -S PacelineCheck.num_tasks=16 -S PacelineCheck.python=/path/to/venv/bin/python
    reframe ... -S PacelineCheck.references=mine.json            # {"system:partition": {"rate": [9e4, -0.1, null]}}

One test an algorithm of the study: every run must complete, with its own sanity checks (bytes, equal starts, conserved
sums), and samples/s and Gbit/s are held against the references that there are. ReFrame's launcher starts the ranks
(srun, mpirun), or Paceline itself does (local). ReFrame and Paceline need not share an environment.
"""

import json
import os

import reframe as rfm
import reframe.utility.sanity as sn
from reframe.core.builtins import parameter, performance_function, run_before, sanity_function, variable

HERE = os.path.dirname(os.path.abspath(__file__))


@rfm.simple_test
class PacelineCheck(rfm.RunOnlyRegressionTest):
    """A small study of one algorithm."""

    algorithm = parameter(["allreduce-sgd", "d-psgd", "ad-psgd"])
    study = variable(str, value=os.path.join(HERE, "reframe.toml"))
    python = variable(str, value="python3")  # of the environment that Paceline is installed in
    references = variable(str, value="")  # JSON: system -> quantity -> [reference, lower, upper]

    descr = "Paceline: samples/s and Gbit/s of a training algorithm"
    valid_systems = ["*"]  # noqa: RUF012 - as ReFrame wants it
    valid_prog_environs = ["*"]  # noqa: RUF012
    sourcesdir = None
    num_tasks = 2
    num_cpus_per_task = 1
    time_limit = "10m"

    @run_before("run")
    def set_command(self):
        """What each task runs, and what is said of the results after it."""
        self.env_vars["OMP_NUM_THREADS"] = 1
        self.executable = self.python
        options = ["--only", self.algorithm, "--workers", str(self.num_tasks), "--out", "out"]
        self.executable_opts = ["-m", "paceline", "run", self.study, *options]
        self.postrun_cmds = [f"{self.python} -m slurm.performance out"]

    @run_before("performance")
    def set_references(self):
        """References of this system, if the user has any."""
        units = {"rate": "samples/s", "wire": "Gbit/s"}
        known = {}
        if self.references:
            with open(self.references, encoding="utf-8") as file:
                known = json.load(file)
        self.reference = {
            system: {name: (*values, units[name]) for name, values in of_system.items()}
            for system, of_system in known.items()
        }

    @sanity_function
    def every_run_has_completed(self):
        """At least one run, and none that failed, crashed or diverged."""
        ran = sn.count(sn.findall(r"^paceline: .*: \w+, ", self.stdout))
        completed = sn.count(sn.findall(r"^paceline: .*: completed, ", self.stdout))
        return sn.all([sn.assert_gt(ran, 0, "no run"), sn.assert_eq(ran, completed, "{1} of {0} runs completed")])

    @performance_function("samples/s")
    def rate(self):
        """Samples of all ranks together, mean over runs."""
        return sn.avg(sn.extractall(r"^paceline: .*, (\S+) samples/s, ", self.stdout, 1, float))

    @performance_function("Gbit/s")
    def wire(self):
        """What all ranks together sent, mean over runs."""
        return sn.avg(sn.extractall(r"^paceline: .* samples/s, (\S+) Gbit/s$", self.stdout, 1, float))
