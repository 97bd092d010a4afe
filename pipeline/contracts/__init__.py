"""Contracts: JSON Schema files that say what an event is, checked strictly and fast, and explained to people."""

from pipeline.contracts.catalogue import load_contracts
from pipeline.contracts.contract import Contract, Decoded, Refused
from pipeline.contracts.errors import ContractBroken, ContractFileBroken, SchemaBroken, UnknownType
from pipeline.contracts.strict import Malformed, Parsed, parse

__all__ = [
    "Contract", "Decoded", "Refused", "load_contracts",
    "ContractBroken", "ContractFileBroken", "SchemaBroken", "UnknownType",
    "Malformed", "Parsed", "parse",
]  # fmt: skip
