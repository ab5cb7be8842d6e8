"""Builders of cases: legal by construction from the declarations, or illegal on purpose."""

from .illegal import illegal_case, illegal_kinds
from .ops import legal_case
from .signatures import Signature, fixed_signatures, free_signature

__all__ = [
    "Signature",
    "fixed_signatures",
    "free_signature",
    "illegal_case",
    "illegal_kinds",
    "legal_case",
]
