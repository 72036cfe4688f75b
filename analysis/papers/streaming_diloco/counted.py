"""Claims about bytes, memory and identities: counted in runs of our algorithms, against the paper's arithmetic."""

from __future__ import annotations

import pandas as pd

from analysis.papers.claim import Claim, Decision
from analysis.papers.evidence import Evidence

EQUAL = 1e-12
FOUR_BITS = 4


def fewer_bits(evidence: Evidence) -> Decision:
    """D8."""
    table = evidence.table("traffic")
    words, exact, ratio = [], [], float("nan")
    for model, rows in table.groupby("model", sort=False):
        parallel = rows.loc[rows["method"] == "data-parallel", "nbytes"].sum()
        streaming = rows[rows["method"] == "overlapped-fp4"]
        codes = (streaming["nbytes"] - streaming["scale_nbytes"]).sum()
        first = rows.iloc[0]
        expected = first["value_bits"] / FOUR_BITS * first["period"]
        # Codes are packed two in a byte, so a fragment of an odd length has half a byte more: none is sent here.
        ratio = float(parallel / codes)
        with_scales = parallel / streaming["nbytes"].sum()
        exact.append(ratio == expected)
        words.append(
            f"{model}, {first['value_bits']} bit: {ratio:g} times fewer (expected {expected:g}), "
            f"{with_scales:.1f} with scales"
        )
    sixteen = table[table["value_bits"] == 16]
    complete = not sixteen.empty and len(exact) >= 2
    return Decision(
        verdict="contradicted" if not all(exact) else "reproduced" if complete else "not shown",
        found="; ".join(words),
        n=len(exact),
        measured=ratio,
        unit="times",
    )


def smaller_bursts(evidence: Evidence) -> Decision:
    """D9."""
    table = evidence.table("traffic")
    words, exact, measured = [], [], float("nan")
    for model, rows in table.groupby("model", sort=False):
        first = rows.iloc[0]
        expected = first["layers"] / first["fragment_layers"]
        streaming = rows[rows["method"] == "streaming"]
        ends = int(streaming.loc[streaming["ends"], "nbytes"].sum())
        whole = int(rows.loc[rows["method"] == "diloco", "nbytes"].max()) - ends  # of the layers, once a period
        burst = int(streaming.loc[~streaming["ends"], "nbytes"].max())
        exact.append(whole == expected * burst)
        measured = whole / burst
        words.append(f"{model}: {measured:g} times smaller (L/|p| = {expected:g})")
        if ends:
            words[-1] += f", embedding and head apart: {whole / ends:.1f}"
    return Decision(
        verdict="contradicted" if not all(exact) else "reproduced" if len(exact) >= 2 else "not shown",
        found="; ".join(words),
        n=len(exact),
        measured=measured,
        unit="times",
    )


def memory(evidence: Evidence) -> Decision:
    """D10."""
    table = evidence.table("memory")
    kept = table.groupby("method")["values"].sum()
    ratio = kept["diloco"] / kept["data-parallel"]
    streaming = table[table["method"] == "streaming"].iloc[0]
    # Of the outer state, only one fragment's is needed at a time: its momentum, and as much of the anchor.
    part = _largest_block_fragment(table[table["method"] == "streaming"])
    parallel = 3 * streaming["block_parameters"]
    share = (parallel + 2 * part) / parallel
    expected = 1 + 2 * streaming["fragment_layers"] / streaming["layers"] / 3
    holds = [abs(ratio - 5 / 3) <= EQUAL, abs(share - expected) <= EQUAL]
    return Decision(
        verdict="reproduced" if all(holds) else "contradicted",
        found=f"DiLoCo keeps {ratio:.4f} of data-parallel's values (5/3); what Streaming needs at hand is {share:.4f} "
        f"({expected:.4f}); without moving the rest to the host, as here, "
        f"{kept['streaming'] / kept['data-parallel']:.4f}",
        n=len(holds),
        measured=float(ratio),
        unit="of data-parallel",
    )


def _largest_block_fragment(rows: pd.DataFrame) -> int:
    """Length of the longest fragment of layers; the last one is the embedding's and the head's."""
    momentum = rows[rows["array"].str.match(r"optimizer/[1-9]\d*/momentum")]
    return int(momentum["values"].iloc[:-1].max())


def identities(evidence: Evidence) -> Decision:
    """D11."""
    table = evidence.table("identities")
    worst = table.sort_values("difference").iloc[-1]
    still = table.loc[~(table["moved"] > 1e-3), "identity"].tolist()
    equal = bool((table["difference"] <= EQUAL).all())
    return Decision(
        verdict="contradicted" if not equal else "not shown" if still or len(table) < 9 else "reproduced",
        found=f"{int((table['difference'] <= EQUAL).sum())} of {len(table)} identities hold; largest difference "
        f"{worst['difference']:.1g} ({worst['identity']})"
        + (f"; nothing moved in {', '.join(still)}" if still else ""),
        n=len(table),
        measured=float(worst["difference"]),
    )


CLAIMS = (
    Claim(
        id="D8",
        statement="Streaming DiLoCo with 4 bits and H = 100 exchanges 400 times fewer bits than 16-bit data-parallel "
        "training.",
        kind="exact",
        expected="400 = 16/4 x 100 (and 32/4 x 100 = 800 against 32 bits)",
        tolerance="exact, scales of the 4-bit format apart",
        rule="Reproduced if the counted payload of one period has exactly that ratio, in the simulated 1B model and in "
        "a run with gradients, M = 2; else contradicted.",
        parts=("traffic",),
        decide=fewer_bits,
    ),
    Claim(
        id="D9",
        statement="The largest burst of Streaming DiLoCo is L/|p| times smaller than DiLoCo's.",
        kind="exact",
        expected="8 = 24/3 for 1B; 3 = 6/2 in the run with gradients",
        tolerance="exact for layers of equal size; embedding and head apart",
        rule="Reproduced if the counted bytes of the busiest step have exactly that ratio in both; else contradicted.",
        parts=("traffic",),
        decide=smaller_bursts,
    ),
    Claim(
        id="D10",
        statement="DiLoCo keeps 5/3 of the memory of data-parallel training, Streaming 2 % more with 3 of 108 layers.",
        kind="exact",
        expected="5/3, and 1 + 2/3 x 3/108 = 1.0185",
        tolerance="exact",
        rule="Reproduced if the arrays that runs keep between their steps, AdamW inside and Nesterov outside, add up "
        "to that; for Streaming those of one fragment, as the paper moves the others to the host; else contradicted.",
        parts=("memory",),
        decide=memory,
    ),
    Claim(
        id="D11",
        statement="In its limits the method is data-parallel training, DiLoCo, isolated training or its inner "
        "optimiser.",
        kind="exact",
        expected="the same parameters",
        tolerance="1e-12 in double precision",
        rule="Reproduced if all nine pairs of runs agree and have moved; contradicted if one pair differs.",
        parts=("identities",),
        decide=identities,
    ),
)
