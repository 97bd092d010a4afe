"""The contract files of a directory: `<topic>/<event type>.json`."""

from pathlib import Path
from typing import Any

from pipeline.contracts.contract import Contract
from pipeline.contracts.errors import ContractFileBroken, SchemaBroken
from pipeline.contracts.strict import Malformed, parse


def load_contracts(directory: Path) -> dict[str, Contract]:
    """Topic → contract, for every folder of `directory`; files that are not `.json` are passed over.

    Raises ContractFileBroken, naming file, place and remedy.
    """
    try:
        entries = sorted(directory.iterdir())
    except OSError as error:
        remedy = "set HARDPARTS_CONTRACTS_DIR to the directory that holds <topic>/<type>.json"
        raise ContractFileBroken(directory, "", f"can't be listed ({error.strerror})", remedy) from error
    for entry in entries:
        if entry.suffix == ".json" and entry.is_file():
            raise ContractFileBroken(entry, "", "it belongs to no topic", "move it to <topic>/<type>.json")
    return {entry.name: _load_topic(entry) for entry in entries if entry.is_dir() and entry.name[0] not in "._"}


def _load_topic(folder: Path) -> Contract:
    files = {path.name.removesuffix(".json"): path for path in sorted(folder.glob("*.json"))}
    if not files:
        raise ContractFileBroken(folder, "", "the topic has no contract", "add <type>.json, or remove the folder")
    try:
        return Contract({event_type: _read(path) for event_type, path in files.items()})
    except ContractFileBroken:
        raise
    except SchemaBroken as error:
        path = files[error.event_type or ""]
        raise ContractFileBroken(path, error.pointer, error.problem, error.remedy) from None


def _read(path: Path) -> Any:
    try:
        value, exact = parse(path.read_bytes())
    except OSError as error:
        raise ContractFileBroken(path, "", f"can't be read ({error.strerror})", "check its permissions") from error
    except Malformed as error:
        raise ContractFileBroken(path, "", str(error), "mend the JSON") from error
    if not exact:
        raise ContractFileBroken(path, "", "an integer is written as a float", "write 1, not 1.0")
    return value
