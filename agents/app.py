"""The composition root: one Faust application, its catalogue, its contracts and its agents."""

from pathlib import Path

from agents.topics import catalogue
from pipeline.runtime.app import App
from tables.read_model import metadata

app = App(
    catalogue=catalogue,
    contracts=Path(__file__).parent / "contracts",
    modules=["agents.user_events", "agents.notification_sender", "agents.read_model"],
    read_model=metadata,
)
