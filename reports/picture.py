"""`python -m reports.picture REPORT.html -o PICTURE.png`: a picture of a report, as a browser shows it.

The window and the scale are fixed, so the same page gives the same picture on a machine with the same fonts.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
TIME_LIMIT_S = 60
HEIGHT = 1700

# Leaves only the first match of a selector and what it stands in, opens it, and says how high the page then is.
ONLY = """<script>{{
  const chosen = document.querySelector({selector});
  if (chosen) {{
    chosen.open = true;
    for (let one = chosen; one !== document.body; one = one.parentElement)
      for (const other of [...one.parentElement.children])
        if (other !== one && other.tagName !== "STYLE") other.remove();
    document.body.style.padding = "16px 0";
  }}
  document.documentElement.dataset.height = chosen ? Math.ceil(document.body.getBoundingClientRect().height) : 0;
}}</script>"""


class PictureError(Exception):
    """No picture could be made; the message says why and what to do."""


def find_chromium() -> str | None:
    """Path of the installed Chromium or Chrome; None if there is none.

    The environment variable CHROMIUM, if it is set, says which.
    """
    names = [os.environ["CHROMIUM"]] if os.environ.get("CHROMIUM") else CHROMIUM
    return next((found for found in map(shutil.which, names) if found), None)


def picture(
    page: Path, output: Path, *, width: int = 1280, height: int | None = None, select: str = "", scale: float = 1
) -> None:
    """Write a PNG of a page.

    Args:
        page: the HTML file.
        output: the PNG file.
        width: of the window [px].
        height: of the window [px]; None: `HEIGHT`, or what `select` needs.
        select: CSS selector of the only part to show, such as "#s1" or ".answer"; "" for the page from its top.
        scale: picture points per px.

    Raises:
        PictureError: there is no browser, no such part of the page, or the browser made no picture.
    """
    with tempfile.TemporaryDirectory(prefix="picture-") as scratch:
        if select:
            part = Path(scratch, "part.html")
            part.write_text(
                page.read_text(encoding="utf-8").replace(
                    "</body>", ONLY.format(selector=json.dumps(select)) + "</body>"
                ),
                encoding="utf-8",
            )
            page = part
            dom = _chromium(scratch, f"--window-size={width},{HEIGHT}", "--dump-dom", page.as_uri())
            found = re.search(r'<html[^>]* data-height="(\d+)"', dom)
            if not found or found[1] == "0":
                raise PictureError(f"nothing in the page matches {select!r} (an id: '#provenance'; a class: '.answer')")
            height = height or int(found[1])
        made = Path(scratch, "picture.png")
        _chromium(
            scratch,
            f"--window-size={width},{height or HEIGHT}",
            f"--force-device-scale-factor={scale:g}",
            f"--screenshot={made}",
            page.resolve().as_uri(),
        )
        if not made.is_file():
            raise PictureError("the browser made no picture (try: chromium --headless --screenshot FILE)")
        shutil.move(made, output)


def _chromium(scratch: str, *arguments: str) -> str:
    """What a browser without a window prints when it is called so; its profile is a fresh one."""
    browser = find_chromium()
    if browser is None:
        raise PictureError(
            f"no browser found: looked for {os.environ.get('CHROMIUM') or ', '.join(CHROMIUM)} "
            "(apt-get install chromium, or CHROMIUM=/path/to/chrome)"
        )
    command = [browser, "--headless", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run"]
    command += [f"--user-data-dir={scratch}/profile", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    try:
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=TIME_LIMIT_S)
    except subprocess.TimeoutExpired:
        raise PictureError(f"{browser} took longer than {TIME_LIMIT_S} s") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise PictureError(f"{browser} ended with code {done.returncode}: {last}")
    return done.stdout


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="python -m reports.picture", description="A picture of a report, by Chromium.")
    p.add_argument("report", metavar="REPORT.html", type=Path)
    p.add_argument("-o", "--output", metavar="FILE.png", type=Path, required=True)
    p.add_argument("--width", type=int, default=1280, help="of the window, in px (default: %(default)s)")
    p.add_argument("--height", type=int, help=f"in px (default: {HEIGHT}, or what --select needs)")
    p.add_argument("--scale", type=float, default=1, help="picture points per px (default: %(default)s)")
    p.add_argument("--select", metavar="CSS", default="", help="only this part of the page, such as '#s1' or '.answer'")
    return p


def main(argv: Sequence[str]) -> int:
    """Make a picture; 0 if it was written, 2 with one line on stderr if it could not be."""
    args = parser().parse_args(argv)
    why = ""
    if not args.report.is_file():
        why = f"no such file: {args.report} (make one: paceline report DIR -o {args.report})"
    elif args.output.is_dir() or not args.output.parent.is_dir():
        why = f"cannot write {args.output}: give a file in a folder that exists"
    elif args.width < 1 or (args.height or 1) < 1 or not 0 < args.scale <= 8:
        why = "width and height must be at least 1 px, the scale above 0 and at most 8"
    else:
        try:
            picture(
                args.report, args.output,
                width=args.width, height=args.height, select=args.select, scale=args.scale,
            )  # fmt: skip
        except (PictureError, OSError) as error:
            why = str(error)
    if why:
        print(f"picture: {why}", file=sys.stderr)
        return 2
    print(f"{args.output}: {args.output.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
