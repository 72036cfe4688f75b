"""What every column of the report means, in plain words and exactly; `t` translates it where it is shown."""

from __future__ import annotations

from typing import NamedTuple

from reports.language import noted


class Definition(NamedTuple):
    """A column: its name in the tables, its heading, unit, and meaning."""

    name: str
    heading: str
    unit: str
    plain: str
    exact: str


DEFINITIONS = (
    Definition(
        "time_to_target_s",
        noted("Time to target"),
        "s",
        noted("How long until the model was good enough, for good."),
        noted(
            "First snapshot at which the held-out loss is at or below the target and stays there in all later "
            "snapshots; its time since the common start of all ranks. Nothing is interpolated: the true time lies "
            "between this snapshot and the one before. If any completed or diverged run never got there, no mean is "
            "given."
        ),
    ),
    Definition(
        "final_heldout_loss",
        noted("Final held-out loss"),
        "nat",
        noted("How good the model is at the end, on data it was not trained on; lower is better."),
        noted(
            "Mean loss of the evaluated model (mean of the workers, or the center, as the algorithm says) on the fixed "
            "held-out set at the last snapshot."
        ),
    ),
    Definition(
        "heldout_metric",
        noted("Held-out metric"),
        "",
        noted("The workload's own measure of quality; its name stands above the table."),
        noted("The same model on the same set at the last snapshot."),
    ),
    Definition(
        "samples_per_s",
        noted("Throughput"),
        noted("samples/s"),
        noted("How many training examples all workers together went through per second."),
        noted(
            "Samples of all workers divided by the duration (common start to the last worker's last step). Never one "
            "rank's rate times n. Fast is not good: read it with the held-out loss."
        ),
    ),
    Definition(
        "goodput_Gbit_per_s",
        noted("Goodput"),
        "Gbit/s",
        noted("Data that the algorithm wanted moved, per second."),
        noted("8e-9 x payload bytes that all ranks asked to move / duration. 1 Gbit = 1e9 bit."),
    ),
    Definition(
        "wire_Gbit_per_s",
        noted("On the wire"),
        "Gbit/s",
        noted("Data that really went over the network, per second."),
        noted(
            "8e-9 x bytes put on the wire by all ranks / duration: payload and header of messages; 2(n-1)/n of the "
            "vector per rank for a ring all-reduce."
        ),
    ),
    Definition(
        "peak_wire_Gbit_per_s",
        noted("Peak on the wire"),
        "Gbit/s",
        noted("The same in the busiest tenth of a second."),
        noted(
            "Bytes of sends and collectives of all ranks, each spread evenly over its time, in the fullest of the "
            "windows [0, 100 ms), [100 ms, 200 ms), ..."
        ),
    ),
    Definition(
        "staleness_mean",
        noted("Staleness, mean"),
        noted("writes"),
        noted("How outdated gradients were when they were used; 0 means never."),
        noted(
            "Writes to the replica (or center) between reading it for a gradient and applying that gradient, mean over "
            "all applied gradients of all ranks."
        ),
    ),
    Definition(
        "staleness_p95",
        noted("Staleness, p95"),
        noted("writes"),
        noted("19 of 20 gradients were at most this outdated."),
        noted("95th percentile of the same: the smallest value with at least 95 % of the gradients at or below it."),
    ),
    Definition(
        "exposed_comm_s",
        noted("Exposed communication"),
        noted("s per worker (share)"),
        noted("Time a worker stood still for others: for slower workers, for the network, for an answer."),
        noted(
            "Union of a worker's waits minus the union of its gradient computations, mean over the workers. In "
            "brackets: share of the duration."
        ),
    ),
    Definition(
        "overlap_fraction",
        noted("Overlap"),
        "%",
        noted("How much of the communication was hidden behind computing."),
        noted(
            "Of the time with a message or collective of this worker in flight, the part that was not exposed; mean "
            "over the workers."
        ),
    ),
    Definition(
        "consensus_distance",
        noted("Consensus distance"),
        "",
        noted("How far the workers' models are apart at the end; 0 means identical."),
        noted("Root mean square over the workers of ||x_i - mean x|| at the last snapshot."),
    ),
)

NOTES = (
    (
        noted("Small print under a number"),
        noted(
            "How far the runs (seeds) scatter. One run: nothing. Two runs: their range. Three or more: 95 % interval "
            "of the mean, BCa bootstrap over runs with a fixed seed. With fewer than about six runs that interval is "
            "too narrow."
        ),
    ),
    (
        noted("Shown / not shown"),
        noted(
            "The report says that A is faster than B only if, with fewer than six runs of either, every run of A was "
            "at the target before any run of B can have been (counting the time between snapshots); with six or more, "
            "if the 95 % intervals do not overlap. Everything else is called not shown. One run is never evidence. "
            "Comparisons are not corrected for their number."
        ),
    ),
    (
        noted("Completed, diverged, failed, crashed"),
        noted(
            "Only completed runs have numbers. A diverged run (a loss that is not finite) is a result and counts as "
            "never reaching the target. A failed run broke a sanity check; a crashed run raised an error or lost a "
            "rank. Neither is a result, and no number of theirs is shown."
        ),
    ),
    (
        noted("Simulated"),
        noted(
            "Times are virtual: computed from a model of network and computing, not measured. Simulated rows are never "
            "compared with measured ones and never enter the answer unless nothing was measured."
        ),
    ),
    (
        noted("Where the time went"),
        noted(
            "Each moment of a rank counts once, for the first of: computing a gradient; waiting (exposed "
            "communication); answering others; applying an update; else done, after the rank's last row, or other. "
            "Waiting for slower workers: from this rank's own start of a collective until the last worker joined (in "
            "lock-step gossip: until the neighbour sent). The rest of the waiting is transfer or an answer that took "
            "its time. Other is what no row covers: drawing a batch, handing work to a helper thread, agreeing on "
            "snapshots, writing records, waiting for a processor core that ranks share."
        ),
    ),
)
