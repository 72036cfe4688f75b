"""Where an answer holds: the network, the hosts and the paths of its runs, in a few words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from reports.conditions import PATHS, loaded
from reports.language import t
from reports.words import listed, number, plural


def where(runs: pd.DataFrame) -> str:
    """The network of some runs: how fast a simulated one is, on how many hosts measured ones were.

    Args:
        runs: rows of `bench.records.RUNS`, all simulated or all measured.
    """
    if runs.empty:
        return ""
    if bool(runs["simulated"].iloc[0]):
        wires = sorted(
            {_wire(str(text), int(n)) for text, n in zip(runs["network"], runs["workers"], strict=True)} - {""}
        )
        return wires[0] if len(wires) == 1 else t("several networks") if wires else ""
    hosts = sorted({host for text in runs["provenance"] for host in hosts_of(loaded(str(text)))})
    paths = sorted({path for text in runs["provenance"] for path in _paths(loaded(str(text)))})
    limits = sorted({_number(loaded(str(text)), "rate_Gbit_per_s") for text in runs["network"]})
    parts = []
    if hosts:
        many = len(hosts) > 1
        parts.append(t("on {hosts}", hosts=plural(len(hosts), "host")) if many else t("all ranks on one host"))
    if paths:
        parts.append(t("bytes through {paths}", paths=listed([t(PATHS.get(path, path)) for path in paths])))
    if any(math.isfinite(limit) for limit in limits):
        rates = listed([number(limit) for limit in limits if math.isfinite(limit)])
        parts.append(t("each rank limited to {rates} Gbit/s", rates=rates))
    if beds := _beds(runs):
        parts.append(t("links of the {beds}", beds=listed(beds)))
    return t(", ").join(parts)


def cautions(runs: pd.DataFrame) -> list[str]:
    """What the means of these runs hide, a sentence each.

    Args:
        runs: rows of `bench.records.RUNS` of one comparison.
    """
    if len(_beds(runs)) > 1:
        return [
            t(
                "Caution: these runs were made on several testbeds under one name, and the means are over all of them. "
                "Give each a study of its own, as paceline testbed run does."
            )
        ]
    if not runs["simulated"].all() or len(_wires(runs)) < 2:
        return []
    return [
        t(
            "Caution: these runs were simulated on several networks under one name, and the means are over all of "
            "them. Give each network a study of its own, as paceline predict does."
        )
    ]


def _beds(runs: pd.DataFrame) -> list[str]:
    """The different testbeds that runs were made on, in words; see `paceline testbed`."""
    beds = [loaded(str(text)).get("testbed") for text in runs["network"]]
    return sorted({str(bed["title"]) for bed in beds if isinstance(bed, dict) and "title" in bed})


def _wires(runs: pd.DataFrame) -> list[str]:
    """The different wires of simulated runs, in words."""
    return sorted({_wire(str(text), int(n)) for text, n in zip(runs["network"], runs["workers"], strict=True)} - {""})


def hosts_of(provenance: Mapping[str, Any]) -> list[str]:
    """Names of the hosts on which a run's ranks were, each once."""
    ranks = provenance.get("ranks")
    named = [rank.get("host") for rank in ranks if isinstance(rank, dict)] if isinstance(ranks, list) else []
    hosts = provenance.get("hosts")
    named += hosts if isinstance(hosts, list) else []
    return sorted({str(host) for host in named if host})


def _paths(provenance: Mapping[str, Any]) -> list[str]:
    paths = provenance.get("paths")
    return sorted({str(path) for path in paths.values()}) if isinstance(paths, dict) else []


def _wire(text: str, workers: int) -> str:
    """The wire between nodes of a simulated run; inside, if all its workers are on one node."""
    network = loaded(text).get("network", {})
    if not isinstance(network, dict):
        return ""
    inside = network.get("inside")
    one_node = isinstance(inside, dict) and workers <= _number(network, "ranks_per_node")
    wire = inside if one_node and isinstance(inside, dict) else network
    gbit, latency_s = _number(wire, "bandwidth_Gbit_per_s"), _number(wire, "latency_s")
    if math.isnan(gbit) or math.isnan(latency_s):
        return ""
    latency = number(1e6 * latency_s)
    if math.isinf(gbit):
        return t("latency {latency} us, no limit of bandwidth", latency=latency)
    return t("{gbit} Gbit/s, latency {latency} us", gbit=number(gbit), latency=latency)


def _number(table: Mapping[str, Any], key: str) -> float:
    value = table.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
