"""The formulas of layouts agree with the reference's own memory, at numbers."""

import numpy as np
import pytest

from fuzz.chooser import SeededChooser
from fuzz.strategies.transfers import transfer_case
from oracle.proofs.definition import Side, units_of
from reference.transfer import decode
from reference.transfer.cache import tensors_of
from reference.transfer.expected import producer_stage

CASES = [transfer_case(SeededChooser(0, "definition", i)) for i in range(60)]
APART = [case for case in CASES if not case.producer.shares_tensors][:20]


def test_copies_lie_on_neighbouring_ranks():
    assert units_of(2, 4) == ((0,), (0,), (1,), (1,))
    assert units_of(4, 2) == ((0, 1), (2, 3))
    assert units_of(3, 1) == ((0, 1, 2),)


@pytest.mark.parametrize("case", APART, ids=range(len(APART)))
def test_a_slot_is_where_the_reference_puts_its_unit(case):
    engine, groups, request = case.producer, case.model.groups, case.requests[0]
    side = Side("P", engine, case, frozenset())
    sizes = {f"u.{g}.{p.name}": p.unit_bytes for g, group in enumerate(groups) for p in group.parts}
    sizes["w.P"] = engine.page_padding
    for stage in range(len(engine.stage_layers)):
        memory = producer_stage(groups, engine, stage, request, number=0)
        lengths = tensors_of(groups, engine, stage)[1]
        assert tuple(s.at(sizes) for s in side.strides(stage)) == lengths
        for rank in range(engine.tp):
            for g, group in enumerate(groups):
                tokens = 1 if group.is_state else engine.block_tokens
                slots = side.slots((stage, rank), g, unit_tokens=tokens, at=0)
                blocks = [b for b in request.producer_blocks[g] if b or not group.is_state]
                for position, block in enumerate(blocks):
                    if not block:
                        continue
                    for slot in slots:
                        start = slot.offset.at(sizes)
                        cells = memory[slot.tensor][rank, block, start:][: slot.length.at(sizes)]
                        at = [decode(int(code)) for code in np.asarray(cells)]
                        wanted = position * (1 if group.is_state else tokens) + slot.token
                        assert {a["unit"] for a in at} == {slot.unit}
                        assert {a["position"] for a in at} == {wanted}
                        assert {a["layer"] for a in at} == {slot.layer}
