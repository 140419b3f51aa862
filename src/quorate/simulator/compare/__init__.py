"""Engines side by side: one workload and one script of faults from one seed, measured alike.

`experiment` runs one engine, `trials` asks what it tolerates, `measures` is the arithmetic,
`document` puts all of it together for `quorate compare`, and `report` makes the page.
"""
