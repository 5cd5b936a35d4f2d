"""Faults on the real thing: `raytrade chaos` hits a running pipeline, `raytrade chaos soak` draws faults and checks.

`draw`, `history`, `redundancy` and `verdict` are pure; the rest are thin shells around processes and files.
"""
