"""A section of figures, a panel for each transport: measured and simulated never share one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from reports import words
from reports.sections.base import Material, Section
from reports.shown import ShownTable


@dataclass(frozen=True)
class Panel:
    """What belongs to one transport.

    Attributes:
        transport: "mpi", "horovod", "simulated".
        figures: SVG text.
        notes: sentences below the figures.
        about: workload and workers, where a section shows several; else "".
    """

    transport: str
    figures: Sequence[str]
    notes: Sequence[str] = ()
    about: str = ""

    @property
    def simulated(self) -> bool:
        """Whether its times are virtual."""
        return self.transport == "simulated"

    @property
    def title(self) -> str:
        """The transport in words."""
        return words.transport(self.transport)


def panels(
    material: Material,
    name: str,
    title: str,
    hint: str,
    shown: Sequence[Panel],
    tables: Sequence[ShownTable] = (),
    key: str = "",
    layout: str = "two-up",
) -> Section | None:
    """A section made of panels, its numbers below them; None if there is no panel.

    Args:
        name: of the section; `material.id(name)` is its anchor.
        hint: what the figures show and how to read them.
        key: HTML that says what the colours mean, if the figures do not.
        layout: CSS class that lays out the panels.
    """
    if not shown:
        return None
    html = material.environment.get_template("sections/panels.html.j2").render(
        hint=hint,
        panels=shown,
        tables=[table.html(material.environment) for table in tables],
        key=Markup(key),
        layout=layout,
        level="h3" if material.setting is None else "h4",
    )
    return Section(material.id(name), title, Markup(html), tuple(tables))
