"""Every way in which two engines can lay two layers of one group out beside each other.

How many heads a rank holds, and of how many ranks, is not said here: a proof takes them, and all
sizes, as symbols. What it cannot take so is counted out: layouts, where keys and values lie,
how much longer a block is on one side, and kernel blocks that are shorter than their blocks.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product

from reference.model import CachedGroup, CachedPart, Engine, TransferCase

from .tp import LAYOUTS, RATIOS, attention_case, single, state_case

PLACEMENTS = tuple(product((False, True), (False, True)))
"""Whether blocks come first, on the producer and on the consumer."""
STATES = 3
"""Kinds of state, whose layouts are all one."""
Shape = tuple[tuple[int, int], tuple[int, int]]
PLAIN: tuple[Shape, ...] = (
    *(((n, n), (1, 1)) for n in RATIOS),
    *(((1, 1), (n, n)) for n in RATIOS if n > 1),
)
SHAPES: tuple[Shape, ...] = (
    *PLAIN,
    # Kernel blocks shorter than blocks, which padding then keeps from lying evenly.
    *(((2 * p, p), (d, d)) for p, d in ((1, 1), (1, 2), (2, 1))),
    *(((p, p), (2 * d, d)) for p, d in ((1, 1), (1, 2), (2, 1))),
    *(((2 * p, p), (3 * d, d)) for p, d in ((1, 1), (1, 2), (2, 1))),
)
"""(block, kernel block) of the producer and of the consumer, in units of the shorter kernel block:
ratios of 1 to 8 on either side, and blocks of two or three kernel blocks; a window, which asks
nothing of a plan, takes the plain ones."""


@cache
def _all() -> tuple[TransferCase, ...]:
    full, sliding = attention_case((2, 1, 2), LAYOUTS[0], 1).model.groups
    plain = single(attention_case((2, 1, 2), LAYOUTS[0], 1))
    latent = CachedGroup("mla", (0,), (CachedPart("latent", 1, 1),))
    states = state_case((1, 2), 1, 1).model.groups[1:]
    found = [_laid_out(plain, group, LAYOUTS[0], (False, False), SHAPES[0]) for group in states]
    found += [
        _laid_out(plain, group, layouts, placement, shape)
        for group, shapes in ((full, SHAPES), (sliding, PLAIN))
        for layouts in LAYOUTS
        for placement in PLACEMENTS
        for shape in shapes
    ]
    found += [
        _laid_out(plain, latent, layouts, (False, False), shape)
        for layouts in LAYOUTS
        for shape in SHAPES
    ]
    return tuple(found)


def _laid_out(
    case: TransferCase,
    group: CachedGroup,
    layouts: tuple[str, str],
    placement: tuple[bool, bool],
    shape: Shape,
) -> TransferCase:
    """`case` with one group of two layers, and its engines' blocks as they are said; block 1 of
    each moves."""
    engines: list[Engine] = []
    for engine, layout, first, (block, kernel) in zip(
        (case.producer, case.consumer), layouts, placement, shape, strict=True
    ):
        engines.append(
            replace(
                engine,
                tp=1,
                stage_layers=(2,),
                num_blocks=2,
                block_tokens=block,
                kernel_tokens=kernel,
                layout=layout,
                blocks_first=first,
            )
        )
    request = replace(
        case.requests[0], prompt_tokens=1, producer_blocks=((1,),), consumer_blocks=((1,),)
    )
    model = replace(case.model, groups=(replace(group, layers=(0, 1)),))
    return replace(case, model=model, producer=engines[0], consumer=engines[1], requests=(request,))


def copy_count() -> int:
    """How many there are."""
    return len(_all())


def copy_case(index: int) -> TransferCase:
    """The one at `index`: states first, of which there is one case each, so that a few take them;
    then any stretch of indices is spread over all others."""
    if index < STATES:
        return _all()[index]
    return _all()[STATES + (index - STATES) * 617 % (len(_all()) - STATES)]
