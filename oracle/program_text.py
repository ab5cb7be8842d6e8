"""A program's operands as Python text."""

from __future__ import annotations

from collections.abc import Sequence

from reference.model import Name, ProgramOperand, Value


def operand_text(operand: ProgramOperand, names: Sequence[str], *, torch: str = "") -> str:
    """An operand, values by ``names``; ``torch`` stands before the names of dtypes and formats."""
    if isinstance(operand, Value):
        return names[operand.number]
    if isinstance(operand, Name):
        return f"{torch}{operand.name}"
    if isinstance(operand, tuple):
        return f"[{', '.join(operand_text(o, names, torch=torch) for o in operand)}]"
    return repr(operand)
