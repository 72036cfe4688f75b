"""Who holds which training data: every cut covers everything once, is what it says, and is the same on all ranks."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.workloads.base import seed_sequence
from bench.workloads.partition import MOST_GROUPS_NAMED, Partition, Share, check, describe_shares, shares
from bench.workloads.roles import BEFORE, CHUNKS_PER_WORKER, articles, chunks, speeches
from tests.support import datasets

PLAYS = Path(__file__).parents[2] / "bench" / "workloads" / "data" / "tinyshakespeare.txt.gz"
COUNT, CLASSES, GROUPS = 1003, 10, 40
LABELS = np.random.default_rng(0).integers(CLASSES, size=COUNT)
SPEAKERS = np.random.default_rng(1).integers(GROUPS, size=COUNT)
LENGTHS = np.random.default_rng(2).integers(1, 300, size=COUNT)
DATA = {"labels": LABELS, "groups": SPEAKERS}
DISJOINT = [
    Partition(by="iid"),
    Partition(by="power-law"),
    Partition(by="power-law", exponent=0.0),
    Partition(by="label", classes=3),
    Partition(by="label", classes=10),
    Partition(by="dirichlet"),
    Partition(by="dirichlet", alpha=50.0),
    Partition(by="role"),
    Partition(by="speaker"),
]


def rng(seed=0):
    return np.random.default_rng(seed_sequence(seed, -1, "partition"))


def cut(partition, size, seed=0, **changes):
    return shares(partition, size, rng(seed), **{"count": COUNT, **DATA, **changes})


# --- every cut ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 4, 7, 32])
@pytest.mark.parametrize("partition", DISJOINT, ids=str)
def test_shares_are_disjoint_sorted_and_hold_everything(partition, size):
    if partition.by == "label" and size * partition.resolved_classes < CLASSES:
        partition = Partition(by="label", classes=CLASSES)
    parts = cut(partition, size)
    assert len(parts) == size
    assert all(np.all(np.diff(part) > 0) and len(part) > 0 for part in parts)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(COUNT))


@pytest.mark.parametrize("partition", DISJOINT, ids=str)
def test_shares_are_a_function_of_the_seed(partition):
    want = cut(partition, 6)
    assert all(np.array_equal(a, b) for a, b in zip(want, cut(partition, 6), strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(want, cut(partition, 6, seed=1), strict=True))


def test_whole_is_everything_for_everybody():
    parts = cut(Partition(), 5)
    assert all(np.array_equal(part, np.arange(COUNT)) for part in parts)


@pytest.mark.parametrize("by", ["iid", "dirichlet", "speaker"])
def test_every_worker_gets_at_least_what_is_needed(by):
    assert min(map(len, cut(Partition(by=by), 12, least=30))) >= 30


def test_samples_needed_of_a_text_are_its_length():
    parts = cut(Partition(by="role"), 5, weights=LENGTHS, least=LENGTHS.sum() // 5 - 300)
    assert all(LENGTHS[part].sum() >= LENGTHS.sum() // 5 - 300 > len(part) for part in parts)


# --- what each cut says it is ------------------------------------------------------------------------------------


@given(count=st.integers(1, 500), size=st.integers(1, 40))
def test_iid_shares_differ_by_at_most_one(count, size):
    if count < size:
        with pytest.raises(ValueError, match=f"got a training set of {count}, not {size}"):
            cut(Partition(by="iid"), size, count=count)
    else:
        sizes = [len(part) for part in cut(Partition(by="iid"), size, count=count)]
        assert max(sizes) - min(sizes) <= 1


def test_iid_shares_have_the_mixture_of_the_whole():
    # Counts of 10 classes in 4 shares: chi-square with 27 degrees of freedom; 1 in 1000 is above 55.5.
    counts = np.stack([np.bincount(LABELS[part], minlength=CLASSES) for part in cut(Partition(by="iid"), 4)])
    expected = counts.sum(axis=0) * counts.sum(axis=1, keepdims=True) / COUNT
    assert ((counts - expected) ** 2 / expected).sum() < 55.5


@pytest.mark.parametrize(("size", "classes"), [(5, 2), (10, 1), (4, 3), (7, 3), (32, 2), (3, 9), (4, 10)])
def test_label_gives_every_worker_so_many_classes_and_every_class_as_many_holders(size, classes):
    parts = cut(Partition(by="label", classes=classes), size)
    counts = np.stack([np.bincount(LABELS[part], minlength=CLASSES) for part in parts])  # [S, C]
    assert np.all((counts > 0).sum(axis=1) == classes)
    holders = (counts > 0).sum(axis=0)
    assert holders.max() - holders.min() <= 1
    for column in counts.T:
        held = column[column > 0]
        assert held.max() - held.min() <= 1


def test_label_mixes_who_shares_a_class_with_whom():
    pairs = [frozenset(np.unique(LABELS[part])) for part in cut(Partition(by="label"), 30)]
    assert len(set(pairs)) > 15  # of 45 possible ones; consecutive dealing would give 5


def test_label_skips_classes_that_do_not_occur():
    labels = np.array([3, 3, 8, 8, 8, 3])
    parts = shares(Partition(by="label", classes=1), 2, rng(), count=6, labels=labels)
    assert sorted(map(tuple, parts)) == [(0, 1, 5), (2, 3, 4)]


def test_dirichlet_proportions_have_the_moments_of_their_distribution():
    # p of one worker: mean 1/S, variance (1/S)(1 - 1/S) / (S alpha + 1).
    size, alpha, each = 4, 0.7, 1000
    labels = np.repeat(np.arange(300), each)
    parts = shares(Partition(by="dirichlet", alpha=alpha), size, rng(), count=len(labels), labels=labels)
    p = np.stack([np.bincount(labels[part], minlength=300) for part in parts]) / each
    assert np.allclose(p.sum(axis=0), 1)
    assert p.mean() == pytest.approx(1 / size)
    assert p.var() == pytest.approx((1 / size) * (1 - 1 / size) / (size * alpha + 1), rel=0.1)


def test_dirichlet_is_uneven_when_small_and_even_when_large():
    def largest(alpha):
        parts = cut(Partition(by="dirichlet", alpha=alpha), 4, least=0)
        return np.mean([np.bincount(LABELS[part], minlength=CLASSES).max() / len(part) for part in parts if len(part)])

    assert largest(1e-6) > 0.2 and largest(0.05) > 0.2 > 0.13 > largest(1e6)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0])
def test_power_law_sizes_follow_the_law_to_one_sample(exponent):
    sizes = sorted((len(part) for part in cut(Partition(by="power-law", exponent=exponent), 8)), reverse=True)
    law = np.arange(1, 9) ** -exponent
    assert np.abs(np.array(sizes) - COUNT * law / law.sum()).max() < 1


def test_power_law_rounds_by_largest_remainders():
    # 10 samples by 1 : 1/2 : 1/3 are 5.45, 2.73 and 1.82.
    assert sorted(map(len, shares(Partition(by="power-law"), 3, rng(), count=10))) == [2, 3, 5]


@pytest.mark.parametrize(
    "partition",
    [Partition(by="iid"), Partition(by="power-law"), Partition(by="label", classes=4), Partition(by="dirichlet")],
    ids=str,
)
def test_who_gets_which_sample_does_not_depend_on_its_place(partition):
    # Data often lie in the order in which they were collected. The mean place of m of the places 0..n-1 has variance
    # (n + 1)(n - m) / 12 m; here within each class, in standard deviations.
    labels = np.arange(10_000) % 10
    for part in shares(partition, 5, rng(), count=10_000, labels=labels):
        for c in np.unique(labels[part]):
            places, n = part[labels[part] == c] // 10, 1000
            m = len(places)
            if m < n:
                assert abs(places.mean() - (n - 1) / 2) < 4 * np.sqrt((n + 1) * (n - m) / (12 * m))


def test_power_law_ranks_are_in_a_random_order():
    largest = {int(np.argmax([len(p) for p in cut(Partition(by="power-law"), 8, seed=seed)])) for seed in range(20)}
    assert len(largest) > 4


@pytest.mark.parametrize("weights", [None, LENGTHS], ids=["samples", "text"])
def test_groups_stay_whole_and_shares_are_balanced(weights):
    parts = cut(Partition(by="speaker"), 6, weights=weights)
    held = [set(SPEAKERS[part]) for part in parts]
    assert sum(map(len, held)) == len(set(SPEAKERS))
    lengths = np.ones(COUNT, dtype=np.int64) if weights is None else weights
    totals = np.array([lengths[part].sum() for part in parts])
    # A share that got the last group was the smallest then, so shares differ by no more than the largest group.
    assert totals.max() - totals.min() <= np.bincount(SPEAKERS, weights=lengths).max()
    # Largest first: at most 4/3 of the best possible (Graham 1969), which is at least the mean.
    assert totals.max() <= 4 / 3 * max(totals.mean(), np.bincount(SPEAKERS, weights=lengths).max())


def test_groups_of_the_same_size_are_dealt_at_random():
    groups = np.repeat(np.arange(12), 5)
    first = {
        tuple(np.unique(groups[shares(Partition(by="role"), 4, rng(seed), count=60, groups=groups)[0]]))
        for seed in range(10)
    }
    assert len(first) > 5 and all(len(roles) == 3 for roles in first)


# --- mistakes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"by": "labels"},
        {"classes": 2},
        {"by": "label", "alpha": 0.5},
        {"by": "iid", "exponent": 1.0},
        {"by": "dirichlet", "classes": 2},
        {"by": "label", "classes": 0},
        {"by": "dirichlet", "alpha": 0.0},
        {"by": "dirichlet", "alpha": float("nan")},
        {"by": "dirichlet", "alpha": float("inf")},
        {"by": "power-law", "exponent": -1.0},
        {"by": "power-law", "exponent": float("nan")},
    ],
    ids=str,
)
def test_refused_settings(wrong):
    with pytest.raises(ValueError, match=r"^partition\.\w+ (must|has no effect).*got .*\(.+\)$"):
        Partition(**wrong)


@pytest.mark.parametrize(
    ("by", "grouping", "labelled", "lacks"),
    [
        ("label", "", False, "no classes"),
        ("dirichlet", "role", False, "no classes"),
        ("role", "speaker", True, "no roles"),
        ("article", "", True, "no articles"),
    ],
)
def test_a_cut_that_the_data_does_not_allow_names_those_it_does(by, grouping, labelled, lacks):
    allowed = ["whole", "iid", "power-law"] + ["label", "dirichlet"] * labelled + [grouping] * bool(grouping)
    with pytest.raises(ValueError, match=f"one of {', '.join(allowed)} for .*{lacks}: got '{by}'"):
        check(Partition(by=by), grouping=grouping, labelled=labelled)
    for name in allowed:
        check(Partition(by=name), grouping=grouping, labelled=labelled)


@pytest.mark.parametrize(
    ("partition", "size", "changes", "says"),
    [
        (Partition(by="label"), 4, {}, r"classes must be at least 3 with 4 workers.*10 classes.*got 2 .*5 workers"),
        (Partition(by="label", classes=11), 4, {}, r"classes must be at most 10.*got 11"),
        (Partition(by="speaker"), 41, {}, r"got 41 workers, but the training data has only 40 speakers"),
        (
            Partition(by="dirichlet", alpha=0.001),
            20,
            {"least": 40},
            r"alpha must be larger.*got 0.001, at best \d+ samp",
        ),
        (
            Partition(by="power-law", exponent=3.0),
            16,
            {},
            r"at least 1 samples: got 0 for rank \d+ of 16, of 1003.*expo",
        ),
        (Partition(by="iid"), 10, {"least": 101}, r"at least 101 samples: got a training set of 1003, not 1010"),
        (Partition(), 2, {"least": 1004}, r"at least 1004 samples: got a training set of 1003, not 1004"),
        (Partition(by="role"), 2, {"weights": LENGTHS, "least": 10**6}, r"ids of text: got a training set of"),
    ],
    ids=lambda value: str(value),
)
def test_too_little_for_so_many_workers(partition, size, changes, says):
    with pytest.raises(ValueError, match=says) as raised:
        cut(partition, size, **changes)
    assert "\n" not in str(raised.value) and str(raised.value).endswith(")")


# --- the record --------------------------------------------------------------------------------------------------


def test_described_shares_count_samples_classes_and_groups():
    labels, groups = np.array([0, 0, 2, 2, 2]), np.array([1, 0, 1, 1, 0])
    parts = [np.array([0, 1, 2]), np.array([3, 4])]
    names = {"labels": labels, "label_names": ("cat", "dog", "owl"), "groups": groups, "group_names": ("Ann", "Bob")}
    assert describe_shares(parts, **names) == [
        Share(rank=0, items=3, samples=3, labels={"cat": 2, "owl": 1}, groups=("Bob", "Ann"), group_count=2),
        Share(rank=1, items=2, samples=2, labels={"owl": 2}, groups=("Ann", "Bob"), group_count=2),
    ]
    assert describe_shares(parts, weights=np.array([5, 1, 1, 2, 2]), groups=groups, group_names=("Ann", "Bob")) == [
        Share(rank=0, items=3, samples=7, labels={}, groups=("Bob", "Ann"), group_count=2),
        Share(rank=1, items=2, samples=4, labels={}, groups=("Ann", "Bob"), group_count=2),
    ]


def test_described_shares_add_up_and_name_only_the_largest_groups():
    rows = describe_shares(
        cut(Partition(by="iid"), 3), labels=LABELS, groups=SPEAKERS, group_names=[f"s{g}" for g in range(GROUPS)]
    )
    assert sum(row.samples for row in rows) == COUNT
    assert all(sum(row.labels.values()) == row.samples for row in rows)
    assert all(len(row.groups) == MOST_GROUPS_NAMED and row.group_count == GROUPS for row in rows)


def test_described_whole_is_the_same_for_all():
    rows = describe_shares(cut(Partition(), 3), labels=LABELS)
    assert [row.rank for row in rows] == [0, 1, 2]
    assert all(row.labels == rows[0].labels and row.samples == COUNT for row in rows)


# --- texts -------------------------------------------------------------------------------------------------------


def assert_covers(bounds, length):
    assert bounds[0, 0] == 0 and bounds[-1, 1] == length
    assert np.array_equal(bounds[1:, 0], bounds[:-1, 1]) and np.all(bounds[:, 0] < bounds[:, 1])


def test_speeches_of_a_small_play():
    text = b"ANN:\nHe said:\nno.\n\nSecond Bob:\nYes\n\nnot a role\n\nANN:\nEnd"
    bounds, groups, names = speeches(text)
    assert names == ("ANN", "Second Bob") and groups.tolist() == [0, 1, 0]
    assert [text[lo:hi] for lo, hi in bounds] == [
        b"ANN:\nHe said:\nno.\n\n", b"Second Bob:\nYes\n\nnot a role\n\n", b"ANN:\nEnd",
    ]  # fmt: skip
    bounds, groups, names = speeches(b"Dramatis personae\n\n" + text)
    assert [names[g] for g in groups] == [BEFORE, "ANN", "Second Bob", "ANN"]
    assert_covers(bounds, 19 + len(text))


def test_speeches_of_the_plays():
    text = gzip.decompress(PLAYS.read_bytes())
    bounds, groups, names = speeches(text)
    assert (len(bounds), len(names)) == (7222, 309)
    assert_covers(bounds, len(text))
    held = np.bincount(groups, weights=bounds[:, 1] - bounds[:, 0])
    assert names[int(np.argmax(held))] == "GLOUCESTER" and "ROMEO" in names and BEFORE not in names
    parts = shares(
        Partition(by="role"), 16, rng(), count=len(bounds), groups=groups, weights=bounds[:, 1] - bounds[:, 0]
    )
    lengths = [(bounds[part, 1] - bounds[part, 0]).sum() for part in parts]
    assert sum(lengths) == len(text) and max(lengths) - min(lengths) < 100  # characters, of 69 712 each


def test_a_text_without_headings_says_so():
    with pytest.raises(ValueError, match="got none in 12 characters"):
        speeches(b"no\nHe said:\n")
    with pytest.raises(ValueError, match="got none in 3 words"):
        articles(np.array([0, 1, 0]), ["<eos>", "word"])


def as_ids(lines):
    words = [word for line in lines.split("\n") for word in [*line.split(), "<eos>"]]
    vocabulary = list(dict.fromkeys(["<eos>", *words]))
    return np.array([vocabulary.index(word) for word in words], dtype=np.int32), vocabulary


def test_articles_of_a_small_text():
    ids, vocabulary = as_ids(
        "\n= One =\n\nx = y\n= W =\n= =\n\n= V =\ntext\n= U =\n\n= t = =\n\n= = Part = =\n\n= a = b =\n\ntext\n\n"
        "= Two more =\n\nend"
    )
    bounds, groups, names = articles(ids, vocabulary)
    texts = [" ".join(vocabulary[w] for w in ids[lo:hi]) for lo, hi in bounds]
    assert [names[g] for g in groups] == ["One", "a = b", "Two more"]
    assert texts[0].startswith("<eos> = One = <eos> <eos> x = y") and texts[0].endswith("= = Part = = <eos>")
    assert texts[2] == "<eos> = Two more = <eos> <eos> end <eos>"
    assert_covers(bounds, len(ids))
    ids, vocabulary = as_ids("= One =\n\na\n\n= One =\n\nb\n\n= One =\n\nc")
    assert articles(ids, vocabulary).names == ("One", "One (2)", "One (3)")
    ids, vocabulary = as_ids("before\n\n= One =\n\nend")
    bounds, groups, names = articles(ids, vocabulary)
    assert [names[g] for g in groups] == [BEFORE, "One"] and bounds.tolist() == [[0, 2], [2, len(ids)]]
    ids, vocabulary = as_ids("= One =\n\nend")
    assert articles(ids, vocabulary).bounds.tolist() == [[0, len(ids)]]


@datasets.needs_data
@pytest.mark.parametrize(("name", "count"), [("valid", 60), ("test", 60)])
def test_articles_of_wikitext(name, count):
    path = datasets.folder() / "wikitext2" / f"{name}.txt.gz"
    if not path.exists():
        pytest.skip(f"no {path.name} in the data folder")
    words = [
        w for line in gzip.decompress(path.read_bytes()).decode().split("\n")[:-1] for w in [*line.split(), "<eos>"]
    ]
    vocabulary = list(dict.fromkeys(words))
    number = {word: i for i, word in enumerate(vocabulary)}
    ids = np.array([number[word] for word in words], dtype=np.int32)
    bounds, _, names = articles(ids, vocabulary)
    assert len(bounds) == len(names) == count
    assert_covers(bounds, len(ids))


@given(length=st.integers(1, 5000), size=st.integers(1, 20), least=st.integers(2, 70))
def test_chunks_are_equal_many_and_long_enough(length, size, least):
    if length // least < size:
        with pytest.raises(ValueError, match=f"got {length} in all"):
            chunks(length, size, least=least)
        return
    bounds = chunks(length, size, least=least)
    assert_covers(bounds, length)
    sizes = bounds[:, 1] - bounds[:, 0]
    assert sizes.min() >= least and sizes.max() - sizes.min() <= 1
    assert size <= len(bounds) == min(size * CHUNKS_PER_WORKER, length // least)
