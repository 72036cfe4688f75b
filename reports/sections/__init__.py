"""The parts of the report that a module each makes: figures and tables with what they mean.

A module listed here has a function `section(material) -> Section | None`; None means that the results hold nothing for
it. Those of `PER_SETTING` are asked for each workload with one number of workers, those of `OVERALL` once.
"""

PER_SETTING: tuple[str, ...] = ()
OVERALL: tuple[str, ...] = ()
