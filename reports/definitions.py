"""What every column of the report means, in plain words and exactly."""

from __future__ import annotations

from typing import NamedTuple


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
        "Time to target",
        "s",
        "How long until the model was good enough, for good.",
        "First snapshot at which the held-out loss is at or below the target and stays there in all later snapshots; "
        "its time since the common start of all ranks. Nothing is interpolated: the true time lies between this "
        "snapshot and the one before. If any completed or diverged run never got there, no mean is given.",
    ),
    Definition(
        "final_heldout_loss",
        "Final held-out loss",
        "nat",
        "How good the model is at the end, on data it was not trained on; lower is better.",
        "Mean loss of the evaluated model (mean of the workers, or the center, as the algorithm says) on the fixed "
        "held-out set at the last snapshot.",
    ),
    Definition(
        "heldout_metric",
        "Held-out metric",
        "",
        "The workload's own measure of quality; its name stands above the table.",
        "The same model on the same set at the last snapshot.",
    ),
    Definition(
        "samples_per_s",
        "Throughput",
        "samples/s",
        "How many training examples all workers together went through per second.",
        "Samples of all workers divided by the duration (common start to the last worker's last step). Never one rank's"
        " rate times n. Fast is not good: read it with the held-out loss.",
    ),
    Definition(
        "goodput_Gbit_per_s",
        "Goodput",
        "Gbit/s",
        "Data that the algorithm wanted moved, per second.",
        "8e-9 x payload bytes that all ranks asked to move / duration. 1 Gbit = 1e9 bit.",
    ),
    Definition(
        "wire_Gbit_per_s",
        "On the wire",
        "Gbit/s",
        "Data that really went over the network, per second.",
        "8e-9 x bytes put on the wire by all ranks / duration: payload and header of messages; 2(n-1)/n of the vector "
        "per rank for a ring all-reduce.",
    ),
    Definition(
        "peak_wire_Gbit_per_s",
        "Peak on the wire",
        "Gbit/s",
        "The same in the busiest tenth of a second.",
        "Bytes of sends and collectives of all ranks, each spread evenly over its time, in the fullest of the windows "
        "[0, 100 ms), [100 ms, 200 ms), ...",
    ),
    Definition(
        "staleness_mean",
        "Staleness, mean",
        "writes",
        "How outdated gradients were when they were used; 0 means never.",
        "Writes to the replica (or center) between reading it for a gradient and applying that gradient, mean over all "
        "applied gradients of all ranks.",
    ),
    Definition(
        "staleness_p95",
        "Staleness, p95",
        "writes",
        "19 of 20 gradients were at most this outdated.",
        "95th percentile of the same: the smallest value with at least 95 % of the gradients at or below it.",
    ),
    Definition(
        "exposed_comm_s",
        "Exposed communication",
        "s per worker (share)",
        "Time a worker stood still for others: for slower workers, for the network, for an answer.",
        "Union of a worker's waits minus the union of its gradient computations, mean over the workers. In brackets: "
        "share of the duration.",
    ),
    Definition(
        "overlap_fraction",
        "Overlap",
        "%",
        "How much of the communication was hidden behind computing.",
        "Of the time with a message or collective of this worker in flight, the part that was not exposed; mean over "
        "the workers.",
    ),
    Definition(
        "consensus_distance",
        "Consensus distance",
        "",
        "How far the workers' models are apart at the end; 0 means identical.",
        "Root mean square over the workers of ||x_i - mean x|| at the last snapshot.",
    ),
)

NOTES = (
    (
        "Small print under a number",
        "How far the runs (seeds) scatter. One run: nothing. Two runs: their range. Three or more: 95 % interval of the"
        " mean, BCa bootstrap over runs with a fixed seed. With fewer than about six runs that interval is too narrow.",
    ),
    (
        "Shown / not shown",
        "The report says that A is faster than B only if, with fewer than six runs of either, every run of A was at the"
        " target before any run of B can have been (counting the time between snapshots); with six or more, if the 95 %"
        " intervals do not overlap. Everything else is called not shown. One run is never evidence. Comparisons are not"
        " corrected for their number.",
    ),
    (
        "Completed, diverged, failed, crashed",
        "Only completed runs have numbers. A diverged run (a loss that is not finite) is a result and counts as never "
        "reaching the target. A failed run broke a sanity check; a crashed run raised an error or lost a rank. Neither "
        "is a result, and no number of theirs is shown.",
    ),
    (
        "Simulated",
        "Times are virtual: computed from a model of network and computing, not measured. Simulated rows are never "
        "compared with measured ones and never enter the answer unless nothing was measured.",
    ),
    (
        "Where the time went",
        "Each moment of a rank counts once, for the first of: computing a gradient; waiting (exposed communication); "
        "answering others; applying an update; else done, after the rank's last row, or other. Waiting for slower "
        "workers: from this rank's own start of a collective until the last worker joined (in lock-step gossip: until "
        "the neighbour sent). The rest of the waiting is transfer or an answer that took its time. Other is what no "
        "row covers: drawing a batch, handing work to a helper thread, agreeing on snapshots, writing records, waiting "
        "for a processor core that ranks share.",
    ),
)
