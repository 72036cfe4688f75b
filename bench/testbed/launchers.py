"""How mpirun starts ranks on the hosts of a bed: by environment variables, so that its command line stays as it is."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from bench.launch import TCP_LINKS
from bench.testbed.bed import LAUNCH, SHAPED, TEMPORARY, Bed
from bench.testbed.quota import procs

AGENT = """#!/bin/sh
# In the place of ssh: HOST COMMAND..., run in the host's namespaces. At a lower priority, since ranks that poll would
# keep the kernel from its work for the network.
while case "$1" in -*) true ;; *) false ;; esac; do shift; done
host=$1
shift
case "$host" in
{cases}
*) echo "no host of the bed: $host" >&2; exit 255 ;;
esac
exec nsenter --target="$pid" --net --mount --uts --wd="$PWD" -- nice -n 5 sh -c "$*"
"""


def environment(bed: Bed, folder: Path, quotas: Mapping[str, str]) -> dict[str, str]:
    """Variables that have Open MPI (4 and 5) and MPICH start ranks on the hosts, one after the other, and send over
    their shaped links only.

    Args:
        folder: where the agent and the list of hosts are written.
        quotas: number of a host -> folder of the cgroup that all that it runs is put into.
    """
    agent, hosts, machines = folder / "agent", folder / "hostfile", folder / "machinefile"
    joins = [
        f"; echo 0 > {shlex.quote(procs(quotas[n]))}" if (n := str(k)) in quotas else "" for k in range(len(bed.hosts))
    ]
    cases = "\n".join(
        f"{shlex.quote(host.name)}) pid={host.pid}{join} ;;" for host, join in zip(bed.hosts, joins, strict=True)
    )
    agent.write_text(AGENT.format(cases=cases))
    agent.chmod(0o755)
    slots = bed.testbed.ranks_per_host
    hosts.write_text("".join(f"{host.name} slots={slots}\n" for host in bed.hosts))
    machines.write_text("".join(f"{host.name}:{slots}\n" for host in bed.hosts))
    return {
        "TMPDIR": str(TEMPORARY),
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",  # the mpirun that belongs to this Python
        "PACELINE_TESTBED_AGENT": str(agent),
        # Open MPI 5: its launcher, PRRTE
        "PRTE_MCA_plm_ssh_agent": str(agent),
        "PRTE_MCA_prte_default_hostfile": str(hosts),
        "PRTE_MCA_prte_if_include": LAUNCH,
        "PRTE_MCA_rmaps_default_mapping_policy": "slot",  # one host after the other, each filled
        # Open MPI 4: its launcher
        "OMPI_MCA_rmaps_base_mapping_policy": "slot",
        "OMPI_MCA_plm_rsh_agent": str(agent),
        "OMPI_MCA_orte_default_hostfile": str(hosts),
        "OMPI_MCA_oob_tcp_if_include": LAUNCH,
        # Open MPI: what ranks say to each other
        "OMPI_MCA_pml": "ob1",
        "OMPI_MCA_btl": "self,tcp",
        "OMPI_MCA_btl_tcp_if_include": SHAPED,
        "OMPI_MCA_btl_tcp_links": TCP_LINKS,
        "OMPI_MCA_mpi_yield_when_idle": "1",  # the hosts' ranks share this machine's cores
        # From 1 MB on, Open MPI's own choice for four ranks sends in one direction at a time: over TCP it takes 1.7
        # times as long as its ring, which is what we count bytes by.
        "OMPI_MCA_coll_tuned_use_dynamic_rules": "1",
        "OMPI_MCA_coll_tuned_allreduce_algorithm": "4",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        # MPICH: its launcher, hydra, and its two ways to the network
        "HYDRA_LAUNCHER": "rsh",
        "HYDRA_LAUNCHER_EXEC": str(agent),
        "HYDRA_HOST_FILE": str(machines),
        "HYDRA_IFACE": LAUNCH,
        "MPIR_CVAR_NOLOCAL": "1",
        "FI_PROVIDER": "tcp",
        "FI_TCP_IFACE": SHAPED,
        "UCX_TLS": "tcp,self",
        "UCX_NET_DEVICES": SHAPED,
    }
