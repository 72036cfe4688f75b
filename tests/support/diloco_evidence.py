"""Evidence of Streaming DiLoCo's studies and experiments that were never run, for its rules and its figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd

from analysis.papers.evidence import Evidence, Missing
from analysis.papers.streaming_diloco.speed import METHODS, NETWORKS

Gaps = Mapping[str, float]  # "part/label" or "part/label/workload" -> loss relative to 2.0

LOSS = 2.0
NOISE = (0.0, 0.01, -0.01, 0.02, -0.02)  # of a seed, the same for all labels: pairs cancel it
COLUMNS = (
    "part", "label", "variant", "workload", "seed", "run_id", "status", "final_heldout_loss", "loss", "study",
    "workers", "transport",
)  # fmt: skip


OWN = (0.0002, -0.0001, -0.0001, 0.0003, -0.0003)  # of a run


class MadeUp(Evidence):
    """Evidence of runs that never were: their losses, and tables as given."""

    def __init__(self, gaps: Gaps, *, seeds: int = 3, tables: Mapping[str, pd.DataFrame] | None = None) -> None:
        super().__init__(Path("nowhere"), "quick")
        rows = []
        for number, (place, relative) in enumerate(gaps.items()):
            part, label, workload = [*place.split("/"), "middle"][:3]
            for seed in range(seeds):
                loss = LOSS * (1 + relative) * (1 + NOISE[seed]) + OWN[(seed + number) % len(OWN)] * LOSS
                rows.append(
                    {"part": part, "label": label, "variant": label, "workload": workload, "seed": seed}
                    | {"run_id": f"{place}-{seed}", "status": "completed", "final_heldout_loss": loss, "loss": loss}
                    | {"study": part, "workers": 2, "transport": "simulated"}
                )
        object.__setattr__(self, "_rows", pd.DataFrame(rows, columns=COLUMNS))
        object.__setattr__(self, "_tables", dict(tables or {}))

    def runs(self, part: str) -> pd.DataFrame:
        rows: pd.DataFrame = self._rows[self._rows["part"] == part]  # type: ignore[attr-defined]
        if rows.empty:
            raise Missing(part)
        return rows

    def table(self, part: str) -> pd.DataFrame:
        found: Mapping[str, pd.DataFrame] = self._tables  # type: ignore[attr-defined]
        return found[part] if part in found else self.runs(part)

    def results(self, part: str) -> Any:
        runs = self.runs(part)
        curve = [
            {"run_id": run, "snapshot": k, "t_s": float(k), "heldout_loss": loss + 1 / (1 + k)}
            | {"samples": 10 * k, "wire_nbytes": 100 * k}
            for run, loss in zip(runs["run_id"], runs["final_heldout_loss"], strict=True)
            for k in range(4)
        ]
        return SimpleNamespace(runs=runs, heldout=pd.DataFrame(curve))


def around(part: str, label: str, values: Mapping[Any, float]) -> dict[str, float]:
    """Gaps of a grid."""
    return {f"{part}/{label.format(key)}": value for key, value in values.items()}


def sizes(small: float, middle: float, large: float) -> Gaps:
    base = {"methods/data-parallel": 0, "sizes/data-parallel/small": 0, "sizes/data-parallel/large": 0}
    return base | {"sizes/diloco/small": small, "methods/diloco": middle, "sizes/diloco/large": large}


def replicas(one: float, two: float, four: float, eight: float) -> Gaps:
    gaps = {"replicas-1/data-parallel": 0.0, "replicas-1/diloco": one, "methods/diloco": two}
    return gaps | {"replicas-4/diloco": four, "replicas-8/diloco": eight}


def delays(one: float, two: float, five: float, ten: float, twenty: float) -> Gaps:
    grid = around("delays", "overlapped@delay={}", {2: two, 5: five, 10: ten, 20: twenty})
    return {"methods/streaming": 0.0, "methods/overlapped": one, "delays/replaced": 0.0, **grid}


def formats(fp4: float, random: float) -> Gaps:
    gaps = {"methods/overlapped": 0.0, "methods/overlapped-bf16": 0.0, "methods/overlapped-fp8": 0.0}
    values = {"dropped-values/random": random, "dropped-values/rescaled": 0.3, "dropped-values/largest": 0.01}
    return gaps | {"methods/overlapped-fp4": fp4} | values


def late(naive: float, eager: float) -> Gaps:
    return {"methods/diloco": 0, "eager/naive": naive, "eager/naive-lowered": 0.02, "eager/eager": eager}


def rates(naive: float, delayed: float, dylu: float) -> Gaps:
    gaps = {"synchronous@lr=0.4": 0.0, "synchronous@lr=0.7": 0.1, "naive@lr=0.07": naive, "naive@lr=0.4": 0.5}
    gaps |= {"delayed@lr=0.4": delayed, "delayed@lr=0.7": 0.2, "delayed-dylu@lr=0.4": 0.3, "delayed-dylu@lr=0.7": dylu}
    return around("asynchronous", "{}", gaps)


def missed(tenth: float, third: float, half: float) -> Gaps:
    gaps = {"drops/diloco/by-role": 0.0, "drops/diloco/random": 0.0}
    grid = {"0.1": tenth, "0.3": third, "0.5": half}
    return gaps | {f"drops/dropping@drop={q}/by-role": value for q, value in grid.items()}


def outers(sgd: float, adam: float) -> Gaps:
    gaps = {"methods/diloco": 0.05, "outer/nesterov@lr=0.2": 0.0, "outer/sgd@lr=0.7": sgd, "outer/sgd@lr=1": 0.4}
    return gaps | {"outer/adam@lr=0.1": 0.4, "outer/adam@lr=0.3": adam}


def periods(one: float, five: float, ten: float, thirty: float, hundred: float) -> Gaps:
    grid = around("periods", "diloco@period={}", {1: one, 5: five, 10: ten, 100: hundred})
    return {"methods/diloco": thirty, **grid}


def pools(doubling: float, ramp: float) -> Gaps:
    return {"pools/doubling": doubling, "pools/halving": 0, "pools/ramp-up": ramp, "pools/ramp-down": 0}


def cosines(first: float, last: float, lead: float, seeds: int = 3) -> MadeUp:
    rows = [
        {"seed": seed, "round": r, "rounds": 9, "layer": f"blocks.{block}", "block": block}
        | {"cosine": (first if r <= 3 else last if r > 6 else 0) + lead * (block == 0) + OWN[(seed + r) % 5]}
        for seed in range(seeds)
        for r in range(1, 10)
        for block in range(4)
    ]
    rows += [{**row, "block": -1, "cosine": 0.9} for row in rows if row["block"] == 0]
    return MadeUp({}, tables={"cosines": pd.DataFrame(rows)})


class Curves(MadeUp):
    """A study of the networks: the same curves over steps, and seconds per step."""

    def __init__(self, step_s: Callable[[str, str], float], seeds: int = 3) -> None:
        super().__init__({f"networks/{m}/{n}": 0.0 for n in NETWORKS for m in METHODS}, seeds=seeds)
        runs = self.runs("networks")
        heldout = [
            {"run_id": row["run_id"], "snapshot": k, "t_s": k * step_s(row["workload"], row["label"])}
            | {"heldout_loss": 4 - 0.2 * k + 0.3 * (row["label"] != "data-parallel")}
            | {"samples": 10 * k, "wire_nbytes": 100 * k}
            for row in runs.to_dict("records")
            for k in range(11)
        ]
        object.__setattr__(self, "_curves", SimpleNamespace(runs=runs, heldout=pd.DataFrame(heldout)))

    def results(self, part: str) -> Any:
        return self._curves  # type: ignore[attr-defined]


def traffic(*, models: int = 2, code: int = 0, burst: int = 0) -> MadeUp:
    rows = []
    for name, bits, parameters in (("a", 16, 800), ("b", 32, 800))[:models]:
        kinds = {
            "data-parallel": [(parameters * bits // 8, False)] * 10,
            "diloco": [(parameters * bits // 8, False)],
            "streaming": [(parameters * bits // 8 // 4, False)] * 4,
            "overlapped-fp4": [(parameters // 2 // 4 + 8, False)] * 4,
        }
        for method, sent in kinds.items():
            for step, (nbytes, ends) in enumerate(sent):
                fp4 = method == "overlapped-fp4"
                more = (code if fp4 else burst if method == "streaming" else 0) * (step == 0)
                rows.append(
                    {"model": name, "method": method, "step": step, "nbytes": nbytes + more, "ends": ends}
                    | {"scale_nbytes": 8 if fp4 else 0, "value_bits": bits}
                    | {"layers": 8, "fragment_layers": 2, "period": 10}
                )
    return MadeUp({}, tables={"traffic": pd.DataFrame(rows)})
