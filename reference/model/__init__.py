"""The typed form of what travels: storages, views, cases. Both sides of a check speak it."""

from .case import Argument, CallForm, OpCase, Plain
from .codec import CODECS, case_from_json, case_kind, case_to_json, digest
from .connector import ConnectorCase
from .fill import PATTERNS, Fill, fill_values
from .memory_codec import CaseFormatError
from .program import Name, ProgramCase, ProgramOperand, ProgramStep, Value
from .state import StateAction, StateCase, StateLayer
from .storage import Storage, View, is_self_overlapping, touched_elements
from .transfer import (
    FAULTS,
    STATE_KINDS,
    CachedGroup,
    CachedModel,
    CachedPart,
    Engine,
    Transfer,
    TransferCase,
)

__all__ = [
    "CODECS",
    "FAULTS",
    "PATTERNS",
    "STATE_KINDS",
    "Argument",
    "CachedGroup",
    "CachedModel",
    "CachedPart",
    "CallForm",
    "CaseFormatError",
    "ConnectorCase",
    "Engine",
    "Fill",
    "Name",
    "OpCase",
    "Plain",
    "ProgramCase",
    "ProgramOperand",
    "ProgramStep",
    "StateAction",
    "StateCase",
    "StateLayer",
    "Storage",
    "Transfer",
    "TransferCase",
    "Value",
    "View",
    "case_from_json",
    "case_kind",
    "case_to_json",
    "digest",
    "fill_values",
    "is_self_overlapping",
    "touched_elements",
]
