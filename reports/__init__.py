"""Tables to one self-contained HTML file; the only package that plots.

Nothing is imported here, so that `paceline --help` answers without loading plotting libraries.
"""
