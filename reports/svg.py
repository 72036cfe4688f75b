"""SVG as matplotlib writes it, made fit for a page that holds many figures.

Algorithms, ink and grid have no colour of their own but CSS variables, so that one figure serves light, dark and print.
Text stays text. Ids are made unique by the figure's name, because all figures share one page.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping

FONT = "system-ui, sans-serif"
LONG = 400  # characters of a path that is no marker


def embedded(svg: str, name: str, title: str, text: str, variables: Mapping[str, str]) -> str:
    """The SVG file as an element of a page, about half as long.

    Args:
        svg: what matplotlib wrote.
        name: unique in the page; letters, digits, hyphens.
        title: short name of the figure.
        text: what a reader who cannot see it should know.
        variables: colour (#rrggbb) -> CSS variable that takes its place.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'<defs>\s*<style type="text/css">.*?</style>\s*</defs>', "", svg, flags=re.S)  # it would leak
    svg = svg.replace("xlink:href", "href")
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\1{name}-", svg)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r'<path [^>]*style="fill: none"/>', "", svg)  # backgrounds that nobody sees
    svg = re.sub(r' transform="rotate\(-?0 [^"]*\)"', "", svg)
    svg = re.sub(r' (d|x|y|transform)="([^"]*)"', lambda found: f' {found[1]}="{_rounded(found[2])}"', svg)
    svg = re.sub(
        r"#[0-9a-f]{6}", lambda found: f"var({variables[found[0]]})" if found[0] in variables else found[0], svg
    )
    svg = re.sub(r"font-family: [^;\"]*(; |(?=\"))", "", svg)  # said once, below
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", FONT, svg)  # in the short form `font: 12px ...` there must be one
    box = re.search(r'viewBox="([^"]*)"', svg)
    assert box is not None
    inner = svg[svg.index(">") + 1 : svg.rindex("</svg>")]
    inner = re.sub(r"\s*\n\s*", "\n", _without_bare_groups(inner)).strip()
    return (
        f'<svg viewBox="{box[1]}" role="img" style="font-family: {FONT}" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{html.escape(title)}</title><desc id="{name}-d">{html.escape(text)}</desc>{inner}</svg>'
    )


def _rounded(numbers: str) -> str:
    """Coordinates to a hundredth of a point, in long paths to a tenth, which nobody can see; rectangles by their sides.

    Example:
        >>> _rounded("M 41.437 213.0304 \\nL 50 -0.001 \\n"), _rounded("translate(3.14159 2)")
        ('M41.44 213.03L50 0', 'translate(3.14 2)')
        >>> _rounded("M 1 2 \\nL 5 2 \\nL 5 9 \\nL 1 9 \\nz\\n")
        'M1 2H5V9H1z'
    """
    digits = 2 if len(numbers) < LONG else 1
    short = re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.{digits}f}".rstrip("0").rstrip("."), numbers)
    short = re.sub(r"(?<![\d.])-0(?![\d.])", "0", short)
    if not re.match(r"\s*M", short):
        return short
    short = re.sub(r"\s*([A-Za-z])\s*", r"\1", short.strip())
    number = r"(-?[\d.]+)"
    return re.sub(rf"M{number} {number}L{number} \2L\3 {number}L\1 \4(?:L\1 \2)?z", r"M\1 \2H\3V\4H\1z", short)


def _without_bare_groups(svg: str) -> str:
    """The same without groups that have no attributes, or nothing in them.

    Example:
        >>> _without_bare_groups('<g><g id="a"><g id="nothing"/><g><path/></g></g></g>')
        '<g id="a"><path/></g>'
    """
    svg = re.sub(r"<g(?: [^>]*)?/>", "", svg)
    kept: list[bool] = []

    def keep(tag: re.Match[str]) -> str:
        if tag[0] == "</g>":
            return tag[0] if kept.pop() else ""
        kept.append(tag[0] != "<g>")
        return tag[0] if kept[-1] else ""

    return re.sub(r"<g(?: [^>]*)?>|</g>", keep, svg)
