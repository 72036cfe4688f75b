"""The site for nodes with GPUs, on nodes that say they have two: each rank sees its own."""

from __future__ import annotations

import json

from bench.records import load
from slurm.site import FOLDER
from tests.slurm.submitted import ENDED, ON_SLURM, fields, log, submit
from tests.slurm.test_launchers import TINY

pytestmark = ON_SLURM


def test_one_rank_is_bound_to_each_gpu(cluster, tmp_path):
    out = tmp_path / "out"
    shipped = (FOLDER / "gpu.toml").read_text()
    # These nodes have two cores and two GPUs; all else is as shipped.
    site = shipped.replace("ranks_per_node = 4", "ranks_per_node = 2").replace(
        "cores_per_rank = 8", "cores_per_rank = 1"
    )
    seen = "setup = [\"srun --ntasks=4 sh -c 'echo gpu $SLURMD_NODENAME $SLURM_LOCALID=$CUDA_VISIBLE_DEVICES'\"]\n"
    job = submit(cluster, out, study=TINY.replace("[2]", "[4]"), site=seen + site)["tiny"]
    assert cluster.wait(job, ENDED, timeout=150) == "COMPLETED", log(out)
    assert fields(cluster, job)["TresPerTask"] == "gres:gpu:1"
    found = sorted(line.split()[1:] for line in log(out).splitlines() if line.startswith("gpu "))
    assert [rank for _, rank in found] == ["0=0", "1=1", "0=0", "1=1"] and len({node for node, _ in found}) == 2
    (run,) = load(out).runs.itertuples()
    assert run.status == "completed" and len(json.loads(run.provenance)["ranks"]) == 4
