"""Every claim of a paper that there is evidence for, decided: rows for `analysis.claim_table`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from analysis.papers.claim import Claim, Paper
from analysis.papers.evidence import Evidence, Missing


@dataclass(frozen=True)
class Decided:
    """The verdicts, and why some claims have none.

    Attributes:
        rows: one for each decided claim, with the columns of `analysis.claim_table.CLAIMS`.
        undecided: claim id -> what is missing.
    """

    rows: list[dict[str, Any]]
    undecided: dict[str, str]


def decide(paper: Paper, evidence: Evidence, claims: Iterable[Claim] | None = None) -> Decided:
    """Ask every rule.

    Args:
        claims: some of the paper's; None means all.

    Source: the rules of `analysis.papers`.

    Example:
        >>> from pathlib import Path
        >>> from analysis.papers.claim import Claim, Decision, Paper
        >>> claim = Claim(id="A1", statement="s", kind="exact", expected="1", rule="r", parts=(),
        ...     decide=lambda evidence: Decision(verdict="reproduced", found="1", n=1))
        >>> paper = Paper(name="p", title="P", url="", parts=(), claims=(claim,))
        >>> decided = decide(paper, Evidence(Path("nowhere"), "quick"))
        >>> decided.rows[0]["verdict"], decided.rows[0]["command"], decided.undecided
        ('reproduced', 'paceline reproduce p --quick --only A1', {})
    """
    rows, undecided = [], {}
    for claim in paper.claims if claims is None else claims:
        try:
            decision = claim.decide(evidence)
        except Missing as missing:
            undecided[claim.id] = str(missing)
            continue
        rows.append(
            {
                "claim_id": claim.id,
                "paper": paper.title,
                "statement": claim.statement,
                "kind": claim.kind,
                "expected": claim.expected,
                "tolerance": claim.tolerance,
                "measured": decision.measured,
                "low": decision.low,
                "high": decision.high,
                "unit": decision.unit,
                "found": decision.found,
                "n": decision.n,
                "verdict": decision.verdict,
                "rule": claim.rule,
                "command": f"paceline reproduce {paper.name} --{evidence.scale} --only {claim.id}",
                "rows": list(decision.rows),
            }
        )
    return Decided(rows, undecided)
