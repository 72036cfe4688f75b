"""The bytes of runs in a bed, as the algorithms' records claim them and as the kernel counted them."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from bench import records
from bench.testbed.settings import HEADERS_NBYTES, Testbed

TOLERANCE = 0.03
"""By how much the payload of TCP may exceed what we claim: for MPI's own headers, agreements and acknowledgements."""


def compared(out: Path, testbed: Testbed) -> pd.DataFrame:
    """One row per run of a results folder that was made in such a bed: `run_id`, `label`, `status`, and

    - `claimed_nbytes`: what its ranks put on the wire to other hosts, by their own records;
    - `counted_nbytes`, `packets`: what the kernel counted on the hosts' shaped links;
    - `headers`: share of Ethernet, IP and TCP headers in that, at 66 byte a packet, acknowledgements included;
    - `payload`: what TCP carried, divided by what is claimed;
    - `agrees`: whether that lies in 1..1.03.

    Runs whose bytes were not counted, such as interrupted ones, are left out.
    """
    results = records.load(out)
    rows = []
    for run in results.runs.to_dict("records"):
        bed = json.loads(run["network"]).get("testbed")
        if bed is None or bed["title"] != testbed.title or bed["hosts"] != testbed.hosts or run["interface_nbytes"] < 0:
            continue
        events = results.events[results.events["run_id"] == run["run_id"]]
        claimed = between_hosts(events, int(run["workers"]), int(bed["ranks_per_host"]))
        counted, packets = int(run["interface_nbytes"]), int(run["interface_packets"])
        payload = (counted - HEADERS_NBYTES * packets) / claimed if claimed else float("nan")
        rows.append(
            {
                "run_id": run["run_id"],
                "label": run["label"],
                "status": run["status"],
                "claimed_nbytes": claimed,
                "counted_nbytes": counted,
                "packets": packets,
                "headers": HEADERS_NBYTES * packets / counted if counted else float("nan"),
                "payload": payload,
                "agrees": claimed == 0 or 1 <= payload <= 1 + TOLERANCE,
            }
        )
    columns = ["run_id", "label", "status", "claimed_nbytes", "counted_nbytes", "packets", "headers", "payload"]
    return pd.DataFrame(rows, columns=[*columns, "agrees"]).astype({"agrees": bool})


def between_hosts(events: pd.DataFrame, workers: int, ranks_per_host: int) -> int:
    """Bytes that ranks sent to ranks of other hosts.

    Of an all-reduce by several ranks a host, with hosts one after the other, a ring has one rank of each host send to
    another host.

    Example:
        >>> events = pd.DataFrame({"kind": ["send", "send", "allreduce", "allreduce"], "rank": [0, 0, 0, 1],
        ...                        "peer": [1, 2, -1, -1], "wire_nbytes": [10, 100, 1000, 1000]})
        >>> between_hosts(events, 4, 1), between_hosts(events, 4, 2)
        (2110, 1100)
    """
    sends = events[events["kind"] == "send"]
    apart = sends["rank"] // ranks_per_host != sends["peer"] // ranks_per_host
    reduced = int(events.loc[events["kind"] == "allreduce", "wire_nbytes"].sum())
    hosts = -(-workers // ranks_per_host)
    share = hosts / workers if hosts > 1 else 0.0
    return int(sends.loc[apart, "wire_nbytes"].sum()) + round(reduced * share)


def shown(rows: pd.DataFrame, testbed: Testbed) -> str:
    """The comparison as text."""
    lines = [f"bytes on the links of the {testbed.title}, as claimed by the ranks and as counted by the kernel:"]
    width = max(len(str(run)) for run in rows["run_id"])
    lines.append(f"{'run':{width}}  claimed, MB  counted, MB  headers  payload / claimed")
    for row in rows.to_dict("records"):
        word = "" if row["agrees"] else "  outside 1..1.03"
        lines.append(
            f"{row['run_id']:{width}}  {row['claimed_nbytes'] / 1e6:11.3f}  {row['counted_nbytes'] / 1e6:11.3f}"
            f"  {row['headers']:6.2%}  {row['payload']:17.4f}{word}"
        )
    return "\n".join(lines)
