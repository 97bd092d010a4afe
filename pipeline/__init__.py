"""The reusable layer of hardparts: ordered, effectively-once stream processing on Faust.

Nothing here imports `agents` or `tables`; the application is found by its name in `HARDPARTS_APP`.
"""

__version__ = "0.1.0"
