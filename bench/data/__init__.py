"""Published data sets: readers of their publishers' formats, the folder they lie in, and how to get them.

Start at `load` (arrays), `catalogue` (what there is) or `cli` (`paceline data`). Nothing here imports torch.
"""
