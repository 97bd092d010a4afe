"""The agents of this application: what happens to each type of event."""
