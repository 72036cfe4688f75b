"""What `paceline workloads` prints: the table, one workload's sheet, and the outcome of its checks."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.meanings import settings_table
from bench.settings import StudyError, build, nearest, parse_set
from bench.workloads.registry import NAMES, SIZES, WorkloadSettings, known, settings_class

WIDTH = 18  # of the column of names


def listing() -> str:
    """The built-in workloads, a paragraph each, and the names of others; from the table, without loading anything."""
    paragraphs = []
    for name, entry in sorted(NAMES.items()):
        data = f"data: {', '.join(entry.data)} (see: paceline data)" if entry.data else "data: comes with Paceline"
        size = f"{count(entry.parameters)} parameters = {nbytes(4 * entry.parameters)}"
        if name == "quadratic":
            data, size = "data: none", f"{entry.parameters} parameters = {nbytes(8 * entry.parameters)}"
        lines = [
            entry.summary,
            f"{size}; {count(entry.flops_per_sample)} FLOP a sample; {data}",
            f"held-out metric: {entry.metric}; target: {entry.target}",
        ]
        paragraphs.append("\n".join(f"{name if k == 0 else '':{WIDTH}s}{line}" for k, line in enumerate(lines)))
    paragraphs += [f"{name:{WIDTH}s}{summary}" for name, (_, _, summary) in SIZES.items()]
    others = [name for name in known() if name not in NAMES]
    if others:
        paragraphs.append(f"{'others':{WIDTH}s}{', '.join(others)}")
    return "\n\n".join(paragraphs)


def sheet(name: str) -> str:
    """One workload: what it is, its settings with defaults and meanings, its tuned optimiser."""
    cls = settings_class(name)
    module = inspect.getmodule(cls)
    about = inspect.getdoc(module) if module is not None and cls.title in {*NAMES, *SIZES} else inspect.getdoc(cls)
    entry = NAMES.get(cls.title)
    lines = [about or "", ""]
    if entry is not None:
        size = f"{entry.parameters} parameters, {count(entry.flops_per_sample)} FLOP a sample"
        lines += [f"With the defaults: {size}; held-out metric {entry.metric}; target: {entry.target}", ""]
    lines += ["Settings of a study's [[workload]]:", *settings_table(cls), ""]
    optimizer = ", ".join(f"{key} = {json.dumps(value)}" for key, value in _defaults(cls).items())
    return "\n".join([*lines, f"Optimiser where a study gives none: {{ {optimizer} }}"])


def _defaults(cls: type[WorkloadSettings]) -> dict[str, Any]:
    return cls(**({"preset": "gpt-1B"} if cls.title in SIZES else {})).optimizer_table()


def check(names: list[str], given: list[str]) -> int:
    """Run what every workload must pass on these workloads (none: on all), then print what they cost."""
    table = parse_set(given, "width=64")
    classes = {name: settings_class(name) for name in names or sorted(NAMES)}
    settings_of = {name: {f.name for f in dataclasses.fields(cls)} for name, cls in classes.items()}  # type: ignore[arg-type]
    allowed = sorted(set().union(*settings_of.values()))
    for key in table:
        if key not in allowed:
            raise StudyError(f"--set: none of these workloads has a setting {key!r}{nearest(key, allowed)}")
    good, bad = [], 0
    for name, cls in classes.items():
        mine = {key: value for key, value in table.items() if key in settings_of[name]}
        failed = _check_one(name, cls, mine)
        bad += failed > 0
        if not failed:
            good.append((name, mine))
    if good:
        _costs(good)
    print(f"\n{len(classes) - bad} of {len(classes)} workloads pass")
    return 1 if bad else 0


def _check_one(name: str, cls: type[WorkloadSettings], table: dict[str, Any]) -> int:
    """How many checks failed; a line for each on stdout."""
    from bench.workloads.check import CHECKS, Subject

    settings = build(cls, table, f"--set ({name})")
    print(f"{name}{' with ' + ', '.join(f'{k} = {v}' for k, v in table.items()) if table else ''}")
    try:
        subject = Subject(settings)
        _ = subject.one
    except (StudyError, ValueError) as error:
        print(f"FAILED   {error}")
        return 1
    failed = 0
    for one in CHECKS:
        what = one.__name__.replace("_", " ")
        try:
            one(subject)
            print(f"ok       {what}")
        except Exception as error:  # whatever it is, it is the workload's fault and the user's to read
            failed += 1
            print(f"FAILED   {what}: {type(error).__name__}: {' '.join(str(error).split())}")
        sys.stdout.flush()
    return failed


def _costs(chosen: list[tuple[str, dict[str, Any]]]) -> None:
    """The table of what the workloads cost on one core of this machine, each measured in a process of its own."""
    head = (
        "workload", "parameters", "bytes", "FLOP/sample", "samples/s", "memory", "16 replicas at once",
        "in a simulation", "metric",
    )  # fmt: skip
    widths = (26, 12, 9, 12, 11, 9, 26, 21, 10)
    print("\nOne rank on one core of this machine:")
    print("  ".join(f"{text:{w}s}" for text, w in zip(head, widths, strict=True)).rstrip())
    for name, table in chosen:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "bench.workloads.measure", json.dumps({"name": name, **table})],
            env=environment, cwd=Path(__file__).resolve().parents[2], capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            print(f"{name:26s}  not measured: {done.stderr.strip().splitlines()[-1]}")
            continue
        c = json.loads(done.stdout.splitlines()[-1])
        sixteen = f"{c['speed_up']:.2f} x as fast (B = {c['vectorised_batch']})"
        many = f"{c['together']}: {c['speed_up_together']:.2f} x as fast" if c["together"] > 1 else "one by one"
        row = (
            c["name"], str(c["parameters"]), nbytes(c["nbytes"]), count(c["flops_per_sample"]),
            f"{c['samples_per_s']:.4g}", nbytes(c["memory_nbytes"]), sixteen, many, c["metric"],
        )  # fmt: skip
        print("  ".join(f"{text:{w}s}" for text, w in zip(row, widths, strict=True)).rstrip())
        sys.stdout.flush()


def count(value: float) -> str:
    """A number with three digits and a prefix: 351946 is "352 k"."""
    for limit, divisor, prefix in ((1e4, 1.0, ""), (1e6, 1e3, " k"), (1e9, 1e6, " M"), (1e12, 1e9, " G")):
        if value < limit:
            return f"{value / divisor:.3g}{prefix}" if divisor > 1 else f"{value:.4g}"
    return f"{value / 1e12:.3g} T"


def nbytes(value: float) -> str:
    """Bytes with a prefix: 1407784 is "1.41 MB"."""
    for limit, divisor, unit in ((1e3, 1.0, "B"), (1e6, 1e3, "kB"), (1e9, 1e6, "MB")):
        if value < limit:
            return f"{value / divisor:.3g} {unit}"
    return f"{value / 1e9:.3g} GB"
