"""The ledger: every claim that has been decided, in one table for people."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from analysis.claim_table import VERDICTS, counts

SIGNS = {"reproduced": "✓", "partly": "◐", "not shown": "○", "contradicted": "✗"}


def merged(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Claims of several folders in one frame; of a claim that is there twice the later row, in the place of the first.

    Args:
        tables: rows of `analysis.claim_table.CLAIMS`; at least one frame.

    Source: `analysis.claim_table`.

    Example:
        >>> old = pd.DataFrame({"paper": "P", "claim_id": ["A1", "A2"], "n": [1, 1]})
        >>> merged([old, old.head(1).assign(n=2)])["n"].tolist()
        [2, 1]
    """
    claims = pd.concat(tables, ignore_index=True)
    place = claims.groupby(["paper", "claim_id"], sort=False).ngroup()
    kept = place.drop_duplicates(keep="last").sort_values()
    return claims.loc[kept.index].reset_index(drop=True)


def ledger(tables: Iterable[pd.DataFrame]) -> str:
    """The ledger as Markdown.

    Args:
        tables: rows of `analysis.claim_table.CLAIMS`, paper by paper; of a claim that is there twice the later counts.

    Source: `analysis.claim_table`.

    Example:
        >>> row = {"paper": "P", "claim_id": "A1", "statement": "s", "verdict": "partly", "found": "1 of 2", "n": 2,
        ...     "kind": "shape", "command": "paceline reproduce p --only A1"}
        >>> print(ledger([pd.DataFrame([row])]).splitlines()[-1])
        | A1 | s | shape | ◐ partly | 1 of 2 | 2 | `paceline reproduce p --only A1` |
    """
    found = [table for table in tables if len(table)]
    lines = ["# The papers, claim by claim", "", "Written by `paceline reproduce ledger`; rules and tolerances were"]
    lines[-1] += " fixed before the runs and stand in `analysis/papers`."
    if not found:
        return "\n".join([*lines, "", "Nothing has been decided yet.", ""])
    claims = merged(found)
    lines += ["", "| paper | claims | " + " | ".join(VERDICTS) + " |", "|---|---:|" + "---:|" * len(VERDICTS)]
    per_paper = counts(claims)
    for row in per_paper.to_dict("records"):
        lines.append(f"| {row['paper']} | {row['claims']} | " + " | ".join(str(row[v]) for v in VERDICTS) + " |")
    totals = per_paper[["claims", *VERDICTS]].sum()
    lines.append("| **all** | " + " | ".join(f"**{int(totals[c])}**" for c in ("claims", *VERDICTS)) + " |")
    for paper, own in claims.groupby("paper", sort=False):
        lines += ["", f"## {paper}", "", "| claim | what the paper says | kind | verdict | found here | n | command |"]
        lines.append("|---|---|---|---|---|---:|---|")
        for row in own.to_dict("records"):
            cells = [
                row["claim_id"], row["statement"], row["kind"], f"{SIGNS[row['verdict']]} {row['verdict']}",
                row["found"], row["n"], f"`{row['command']}`",
            ]  # fmt: skip
            lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])
