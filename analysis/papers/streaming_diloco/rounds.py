"""Claims about rounds and outer steps: without rounds, with workers missing, other outer optimisers, how alike
replicas move."""

from __future__ import annotations

from analysis.papers.claim import LEAST_SEEDS, Claim, Decision, Verdict
from analysis.papers.evidence import Evidence, Missing
from analysis.papers.streaming_diloco.compare import (
    Gap,
    Losses,
    above,
    final,
    gap,
    inside,
    mean_loss,
    of_variant,
    rising,
    rows_of,
    together,
)
from analysis.papers.streaming_diloco.methods import decision
from analysis.statistics import mean_over_runs


def best(evidence: Evidence, part: str, label: str, workload: str | None = None) -> tuple[str, Losses]:
    """The label of a grid (LABEL@...) with the lowest mean loss, and its losses.

    Raises:
        Missing: the study has no such label.
    """
    labels = sorted(str(found) for found in evidence.runs(part)["label"].unique() if str(found).startswith(f"{label}@"))
    if not labels:
        raise Missing(f"{part}: no run of {label}@...")
    found = {name: final(evidence, part, name, workload) for name in labels}
    name = min(found, key=lambda key: mean_loss(found[key]))
    return name, found[name]


def asynchronous(evidence: Evidence) -> Decision:
    """D22."""
    names, losses = {}, {}
    for label in ("synchronous", "naive", "delayed", "delayed-dylu"):
        names[label], losses[label] = best(evidence, "asynchronous", label)
    gaps = {label: gap(losses[label], losses["synchronous"]) for label in names if label != "synchronous"}
    return decision(
        together([above(gaps["naive"]), inside(gaps["delayed"], -1.0, 0.02), inside(gaps["delayed-dylu"], -1.0, 0.02)]),
        f"against {names['synchronous']}: "
        + "; ".join(f"{names[label]} {found.words}" for label, found in gaps.items()),
        gaps["naive"],
        rows=rows_of(evidence, "asynchronous"),
    )


def dropped_rounds(evidence: Evidence) -> Decision:
    """D23."""
    base = final(evidence, "drops", "diloco", "by-role")
    gaps = {q: gap(final(evidence, "drops", f"dropping@drop={q}"), base, perplexity=True) for q in (0.1, 0.3, 0.5)}
    trend: Verdict = "not shown"
    if min(found.n for found in gaps.values()) >= LEAST_SEEDS:
        trend = "reproduced" if rising([gaps[q].mean for q in gaps]) else "contradicted"
    return decision(
        together([inside(gaps[0.5], -1.0, 0.05), trend]),
        "perplexity against none dropped: "
        + "; ".join(f"{100 * q:.0f} % {found.words}" for q, found in gaps.items())
        + f"; largest rise between two snapshots {spikes(evidence):.3f} nat",
        gaps[0.5],
        rows=rows_of(evidence, "drops"),
    )


def spikes(evidence: Evidence) -> float:
    """Largest rise of the held-out loss from one snapshot to the next in a run that drops rounds [nat]."""
    results = evidence.results("drops")
    dropping = results.runs.loc[results.runs["label"].astype(str).str.startswith("dropping"), "run_id"]
    curves = results.heldout[results.heldout["run_id"].isin(dropping)].sort_values("snapshot")
    rises = curves.groupby("run_id", observed=True)["heldout_loss"].apply(lambda curve: curve.diff().max())
    return float(max(rises.max(), 0.0))


def order_of_computing(evidence: Evidence) -> Decision:
    """D24."""
    pairs = (("doubling", "halving"), ("ramp-up", "ramp-down"))
    gaps = [gap(of_variant(evidence, "pools", a), of_variant(evidence, "pools", b)) for a, b in pairs]
    return decision(
        together(inside(found, -0.02, 0.02) for found in gaps),
        "; ".join(f"{a} against {b} {found.words}" for (a, b), found in zip(pairs, gaps, strict=True)),
        max(gaps, key=lambda found: abs(found.mean)),
    )


def outer_optimizers(evidence: Evidence) -> Decision:
    """D25."""
    other_name, other = best(evidence, "outer", "nesterov")
    first = final(evidence, "methods", "diloco")
    name, nesterov = min(
        (("nesterov@lr=0.4", first), (other_name, other)), key=lambda candidate: mean_loss(candidate[1])
    )
    gaps: dict[str, Gap] = {}
    for label in ("sgd", "adam"):
        rival, losses = best(evidence, "outer", label)
        gaps[rival] = gap(losses, nesterov)
    return decision(
        together(above(found) for found in gaps.values()),
        f"against {name}: " + "; ".join(f"{rival} {found.words}" for rival, found in gaps.items()),
        min(gaps.values(), key=lambda found: found.mean),
        rows=rows_of(evidence, "outer"),
    )


def likeness(evidence: Evidence) -> Decision:
    """D27."""
    table = evidence.table("cosines")
    blocks = table[table["block"] >= 0]
    last_first = blocks["round"] > 2 * blocks["rounds"] / 3
    thirds = {
        "first": blocks[blocks["round"] <= blocks["rounds"] / 3],
        "middle": blocks[(blocks["round"] > blocks["rounds"] / 3) & ~last_first],
        "last": blocks[last_first],
    }
    means = {name: mean_over_runs(rows.groupby("seed")["cosine"].mean().tolist()) for name, rows in thirds.items()}
    by_block = blocks.groupby(["seed", "block"])["cosine"].mean().unstack("block")
    lead = mean_over_runs((by_block[0] - by_block.drop(columns=0).median(axis=1)).tolist())
    n = len(by_block)
    verdicts: list[Verdict] = ["not shown"]
    if n >= LEAST_SEEDS:
        signs: list[Verdict] = [
            "reproduced" if means["first"].low > 0 else "contradicted" if means["first"].high < 0 else "not shown",
            "reproduced" if means["last"].high < 0 else "contradicted" if means["last"].low > 0 else "not shown",
        ]
        verdicts = [*signs, "reproduced" if lead.low > 0 else "contradicted" if lead.high < 0 else "not shown"]
    return Decision(
        verdict=together(verdicts),
        found="; ".join(
            f"{name} third {mean.mean:+.3f} [{mean.low:+.3f}, {mean.high:+.3f}]" for name, mean in means.items()
        )
        + f"; first layer above the median of the others by {lead.mean:+.3f} [{lead.low:+.3f}, {lead.high:+.3f}]",
        n=n,
        measured=means["last"].mean,
        low=means["last"].low,
        high=means["last"].high,
        unit="cosine",
    )


def own_data(evidence: Evidence) -> Decision:
    """D28."""
    found = gap(
        final(evidence, "drops", "diloco", "by-role"), final(evidence, "drops", "diloco", "random"), perplexity=True
    )
    return decision(
        inside(found, -0.03, 0.03),
        f"perplexity with shares by role against random ones {found.words}",
        found,
        rows=rows_of(evidence, "drops"),
    )


CLAIMS = (
    Claim(
        id="D22",
        statement="Asynchronous DiLoCo with Nesterov's momentum is worse than synchronous even on equal speeds; "
        "delayed Nesterov with dynamic local updates makes up for it.",
        kind="shape",
        expected="perplexity 44.27 against 41.35; 41.27 with both",
        tolerance="2 % of the loss",
        rule="Best of two outer rates each. Three parts: naive above synchronous beyond the interval; delayed Nesterov "
        "on equal speeds, and with dynamic local updates on unequal ones, at most 2 % above synchronous. Reproduced if "
        "all; partly if some, or if an interval reaches there; else contradicted; not shown if nothing is told.",
        parts=("asynchronous",),
        decide=asynchronous,
    ),
    Claim(
        id="D23",
        statement="Half of the communication dropped costs little, on shares that differ.",
        kind="number",
        expected="+2.1 % perplexity",
        tolerance="5 %",
        rule="Two parts: the mean rise of the perplexity at 50 % is at most 5 %; it does not fall from 10 over 30 to "
        "50 %. Reproduced if both; partly if one, or if the interval reaches there; else contradicted; not shown below "
        "3 seeds. The largest rise between two snapshots is reported.",
        parts=("drops",),
        decide=dropped_rounds,
    ),
    Claim(
        id="D24",
        statement="The end depends on how much is computed, not on when.",
        kind="shape",
        expected="doubling as halving, ramping up as ramping down",
        tolerance="2 %",
        rule="Reproduced if the mean difference in both pairs is at most 2 % either way; partly if in one, or if an "
        "interval reaches there; else contradicted; not shown below 3 seeds.",
        parts=("pools",),
        decide=order_of_computing,
    ),
    Claim(
        id="D25",
        statement="Nesterov's method is the best outer optimiser.",
        kind="shape",
        expected="Nesterov below SGD and Adam (figure 6 of 2311.08105)",
        rule="Best of two outer rates each. Reproduced if SGD and Adam are above Nesterov beyond their intervals; "
        "partly if one is; contradicted if one is below and none above; not shown if the intervals contain 0.",
        parts=("methods", "outer"),
        decide=outer_optimizers,
    ),
)

LIKENESS_CLAIMS = (
    Claim(
        id="D27",
        statement="Replicas' outer gradients are a little alike at first and a little opposed at last; those of the "
        "first layer are most alike.",
        kind="shape",
        expected="cosine about +0.1, then 0, at last -0.1",
        rule="Three parts, each by its interval over seeds: the mean cosine of the layers in the first third of the "
        "rounds is above 0, in the last third below 0; the first layer's is above the median of the others. Reproduced "
        "if all; partly if some; contradicted if none and one is the other way round; not shown below 3 seeds.",
        parts=("cosines",),
        decide=likeness,
    ),
    Claim(
        id="D28",
        statement="Shares that differ end where random ones end.",
        kind="number",
        expected="perplexity 15.02 against 15.08",
        tolerance="3 %",
        rule="Reproduced if the mean difference of the perplexity, shares by role against random ones, is at most 3 % "
        "either way; partly if its interval reaches there; else contradicted; not shown below 3 seeds.",
        parts=("drops",),
        decide=own_data,
    ),
)
