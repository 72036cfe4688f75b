"""Cuts a training text into what may be dealt to workers: speeches by role, articles, or equal chunks.

Axes: S segments, which cover the text without gaps, in order.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.workloads.partition import Indices

CHUNKS_PER_WORKER = 32
BEFORE = "(before the first heading)"

# "First Citizen:" at the start or after an empty line. A line of a speech may end with a colon too.
ROLE = re.compile(rb"(?:\A|(?<=\n\n))([^\n:]+):\n")


class Segments(NamedTuple):
    """Parts of a text: start and end [S, 2], number of each part's group [S], and the groups' names."""

    bounds: Indices
    groups: Indices
    names: tuple[str, ...]


def speeches(text: bytes) -> Segments:
    """The speeches of plays, by role; a speech has its heading and the empty line after it.

    A name is a role, whatever the play: the text does not say where one play ends, so First Citizen of one and of
    another are one role.

    Args:
        text: one byte per character, so that positions are those of the characters' ids.

    Raises:
        ValueError: the text has no headings.
    """
    headings = list(ROLE.finditer(text))
    if not headings:
        raise ValueError(
            f"a text with roles must have headings such as 'ROMEO:' after an empty line: got none in {len(text)} "
            "characters (choose another partition)"
        )
    return _segments([h.start() for h in headings], [h[1].decode("latin-1") for h in headings], len(text))


def articles(ids: NDArray[np.integer], vocabulary: Sequence[str]) -> Segments:
    """The articles of a text of words, by title: an article starts at the empty line before its "= Title =".

    Headings within an article have more signs of equality: "= = History = =". A paragraph may begin and end with one
    too, but has no empty lines around it. Every article is a group of its own: the titles of several are "<unk>", all
    but the first of which are numbered, "<unk> (2)".

    Args:
        ids: words as indices into the vocabulary [N], with "<eos>" at the end of each line.

    Raises:
        ValueError: the text has no such headings.
    """
    number = {word: i for i, word in enumerate(vocabulary)}
    end_of_line, sign = number.get("<eos>", -1), number.get("=", -1)
    ends = np.flatnonzero(ids == end_of_line)
    starts = np.concatenate(([0], ends + 1))[: len(ends)]
    empty = ends == starts
    # Of lines with a word between two signs, those whose second and last but one words are no signs.
    long = np.flatnonzero(ends - starts >= 3)
    first, last = starts[long], ends[long] - 1
    is_heading = (ids[first] == sign) & (ids[first + 1] != sign) & (ids[last] == sign) & (ids[last - 1] != sign)
    lines = long[is_heading]
    around = np.concatenate(([True], empty, [True]))  # the text's own ends will do as well
    lines = lines[around[lines] & around[lines + 2]]
    if not len(lines):
        raise ValueError(
            f"a text with articles must have headings such as '= Title =' between empty lines: got none in {len(ids)} "
            "words (choose another partition)"
        )
    titles = [" ".join(vocabulary[w] for w in ids[starts[line] + 1 : ends[line] - 1]) for line in lines]
    seen: Counter[str] = Counter()
    for k, title in enumerate(titles):
        seen[title] += 1
        titles[k] += f" ({seen[title]})" if seen[title] > 1 else ""
    # The line before is empty, so that its only word is its "<eos>", at starts - 1.
    return _segments([max(0, int(starts[line]) - 1) for line in lines], titles, len(ids))


def chunks(length: int, size: int, *, least: int) -> Indices:
    """Start and end [S, 2] of equal parts of a text, to be dealt to `size` workers at random: many for each of them.

    Args:
        length: of the text.
        least: shortest part that will do, such as context + 1.

    Raises:
        ValueError: there are fewer such parts than workers.
    """
    count = min(CHUNKS_PER_WORKER * size, length // least)
    if count < size:
        raise ValueError(
            f"a text dealt to {size} workers must have {least} ids for each of them: got {length} in all "
            f"(use fewer workers, or a shorter context)"
        )
    edges = np.arange(count + 1) * length // count
    return np.stack((edges[:-1], edges[1:]), axis=1)


def _segments(starts: Sequence[int], titles: Sequence[str], length: int) -> Segments:
    """Those that start there; parts of the same title are one group."""
    if starts[0] > 0:
        starts, titles = [0, *starts], [BEFORE, *titles]
    names = sorted(set(titles))
    number = {name: i for i, name in enumerate(names)}
    bounds = np.stack((np.array(starts), np.array([*starts[1:], length])), axis=1).astype(np.int64)
    return Segments(bounds, np.array([number[title] for title in titles], dtype=np.int64), tuple(names))
