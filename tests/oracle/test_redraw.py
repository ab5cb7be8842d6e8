"""Small cases drawn anew where shrinking stopped at a large one."""

from dataclasses import replace

from oracle.redraw import SMALL, smaller_draws
from reference.declaration import Refusal
from reference.legal import DECLARATIONS
from reference.model import Argument, Fill, OpCase, Storage, View


def case(columns: int) -> OpCase:
    return OpCase(
        "gelu_and_mul_sparse",
        (Storage("bfloat16", columns, Fill("normal", 1)),),
        (
            Argument("x", View(0, (columns,), (1,))),
            Argument("std_multiplier", 0.1),
            Argument("approximate", "tanh"),
        ),
    )


def test_draws_are_legal_small_and_of_the_dtype():
    made = list(smaller_draws(case(16)))
    assert len(made) > 100
    for each in made:
        assert not isinstance(DECLARATIONS[each.op].bind(each), Refusal)
        x = each.views()["x"]
        assert x.numel <= SMALL
        assert each.storages[x.storage].dtype == "bfloat16"
    assert len({each.views()["x"].strides for each in made}) > 10


def test_every_other_draw_keeps_the_plain_arguments():
    kept = [
        each
        for each in smaller_draws(case(16))
        if {a.name: a.value for a in each.arguments}.get("std_multiplier") == 0.1
    ]
    assert len(kept) > 50


def test_what_is_small_or_keeps_state_is_not_drawn_anew():
    assert list(smaller_draws(case(4))) == []
    assert list(smaller_draws(object())) == []
    stateful = next(op for op, d in DECLARATIONS.items() if d.states)
    assert list(smaller_draws(replace(case(16), op=stateful))) == []
