"""`hardparts demo`: the whole pipeline on one machine, through a bad day, and whether it all adds up.

The day is told in `story`; what is fed in `generate`; who judges in `count` (what must have come out, computed from the
input alone) and `verdict` (what did come out).
"""
