"""Programs in torch, step by step and compiled, as observations: with us or without."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from oracle.observation import Raised
from oracle.observation.program import ProgramReturned
from reference.model import ProgramCase

from .calls import is_ir, run_steps, target_of
from .memory import ProgramMemory, build, observed, reached


def step_by_step(
    case: ProgramCase, find: Callable[[str], Callable[..., Any]] = target_of
) -> ProgramReturned:
    """The program's steps run one by one, each by what ``find`` gives for its name."""
    memory = build(case)
    seen: dict[int, Any] = {}

    def keep(number: int, step: Any, results: list[Any]) -> None:
        if is_ir(step):
            seen.update((number + k, r.detach().clone()) for k, r in enumerate(results))

    values = run_steps(case, memory.inputs, find=find, after=keep)
    return returned(case, memory, (values[n] for n in case.outputs), seen)


def compiled(case: ProgramCase, way: str, eager: ProgramReturned) -> ProgramReturned:
    """The program through torch.compile (a way of ``run_compiled``), beside its ``eager`` run."""
    from .compiling import run_compiled

    memory = build(case)
    done = run_compiled(case, memory.inputs, way)
    # Inductor sums in another order: behind an op of the IR its bits are its own.
    exact = way in ("backend", "aot_eager") or not any(is_ir(s) for s in case.steps)
    found = returned(case, memory, done.outputs, done.seen)
    return replace(found, eager=eager.outputs, exact=exact)


def returned(
    case: ProgramCase, memory: ProgramMemory, outputs: Iterable[Any], seen: dict[int, Any]
) -> ProgramReturned:
    """A run as data. ``seen``: what ops of the IR returned; ``memory`` is spoilt afterwards."""
    outputs = tuple(outputs)
    shown = observed(outputs, memory)
    after = memory.after(case)
    copies = dict(zip(seen, observed(tuple(seen.values()), memory), strict=True))
    return ProgramReturned(
        route="",
        outputs=shown,
        inputs_after=after,
        seen=copies,
        reached=reached(outputs, memory),
    )


def raised(error: BaseException) -> Raised:
    """An exception as data."""
    bases = tuple(base.__name__ for base in type(error).__mro__[1:-1])
    return Raised(type(error).__name__, bases, str(error))


def has_compiler() -> bool:
    """Whether Inductor can compile here."""
    from ir import compiled

    return compiled.has_compiler()
