"""Numbers, counts and enumerations as text, in the reader's language."""

from __future__ import annotations

import math
from collections.abc import Sequence

from reports.language import noted, retold, t

TRANSPORTS = {"mpi": "MPI", "horovod": "Horovod", "simulated": noted("simulator")}
BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B"))
NOTHING = "–"


def number(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, without an exponent where it can be read without.

    Example:
        >>> number(0.0494999), number(1234.5), number(0), number(float("nan")), number(2.5e-7)
        ('0.0495', '1,234', '0', '–', '2.5e-07')
    """
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return t("never") if value > 0 else NOTHING
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if size >= digits - 1:
        return f"{value:,.0f}"
    if size < -4:
        return f"{value:.{digits - 1}g}"
    return f"{value:.{digits - 1 - size}f}"


def seconds(value: float) -> str:
    """Seconds as text.

    Example:
        >>> seconds(1.5225).split()
        ['1.52', 's']
    """
    return f"{number(value)}\u00a0s"  # a line must not break between number and unit


def short(name: str, most: int = 24) -> str:
    """A name that fits beside a line, its middle left out if it is long.

    Example:
        >>> short("easgd"), short("diloco period=100 outer=0.7 nesterov")
        ('easgd', 'diloco perio….7 nesterov')
    """
    if len(name) <= most:
        return name
    return name[: most // 2] + "…" + name[len(name) - (most - most // 2 - 1) :]


def nbytes(value: float) -> str:
    """Bytes as text, decimal units.

    Example:
        >>> nbytes(1234567).split(), nbytes(float("nan"))
        (['1.23', 'MB'], '–')
    """
    if math.isnan(value):
        return NOTHING
    scale, unit = next(((s, u) for s, u in BYTES if abs(value) >= s), BYTES[-1])
    return f"{number(value / scale)}\u00a0{unit}"


def percent(share: float) -> str:
    """A share as a percentage.

    Example:
        >>> [percent(share).split() for share in (0.674, 0.004, -0.2)]
        [['67', '%'], ['0.4', '%'], ['-20', '%']]
    """
    if math.isnan(share):
        return NOTHING
    return f"{100 * share:.0f}\u00a0%" if abs(share) >= 0.0995 or share == 0 else f"{100 * share:.1f}\u00a0%"


def transport(name: str) -> str:
    """A transport's name for a reader.

    Example:
        >>> transport("mpi"), transport("simulated"), transport("my-own")
        ('MPI', 'simulator', 'my-own')
    """
    return t(TRANSPORTS[name]) if name in TRANSPORTS else name


def listed(words: Sequence[str]) -> str:
    """Words as an enumeration.

    Example:
        >>> listed(["a"]), listed(["a", "b", "c"])
        ('a', 'a, b and c')
    """
    if len(words) < 2:
        return "".join(words)
    return t("{all_but_last} and {last}", all_but_last=commas(words[:-1]), last=words[-1])


def commas(words: Sequence[str]) -> str:
    """Words with commas between them.

    Example:
        >>> commas(["a", "b"])
        'a, b'
    """
    return t(", ").join(words)


def named(labels: Sequence[str], most: int = 6) -> str:
    """Algorithms in a sentence: all of a few, of many the first ones and how many more.

    Example:
        >>> named(["a", "b"]), named(list("abcdefgh"), most=3)
        ('a and b', 'a, b and 6 others')
    """
    if len(labels) <= most:
        return listed(labels)
    return listed([*labels[: most - 1], plural(len(labels) - most + 1, "other")])


NOUNS = {
    "run": (noted("{n} run"), noted("{n} runs")),
    "worker": (noted("{n} worker"), noted("{n} workers")),
    "pair": (noted("{n} pair"), noted("{n} pairs")),
    "comparison": (noted("{n} comparison"), noted("{n} comparisons")),
    "other": (noted("{n} other"), noted("{n} others")),
    "host": (noted("{n} host"), noted("{n} hosts")),
    "step": (noted("{n} step"), noted("{n} steps")),
    "seed": (noted("{n} seed"), noted("{n} seeds")),
}


def plural(n: int, word: str) -> str:
    """A count with its noun.

    Example:
        >>> plural(1, "run"), plural(2, "run")
        ('1 run', '2 runs')
    """
    if word in NOUNS:
        return t(NOUNS[word][n != 1], n=n)
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


INTERVALS = (
    noted("no value"),
    noted("n={n}, no interval"),
    noted("range of n={n}"),
    noted("95 % BCa bootstrap, n={n}"),
)


def interval_kind(text: str) -> str:
    """How an interval was made (`analysis.statistics.Mean.interval`), in the reader's language.

    Example:
        >>> interval_kind("range of n=2")
        'range of n=2'
    """
    return retold(text, INTERVALS)
