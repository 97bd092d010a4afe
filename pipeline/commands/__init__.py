"""The commands, one file each; `pipeline.cli` imports a command only when it is called."""
