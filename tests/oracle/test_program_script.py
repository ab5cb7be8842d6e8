"""Scripts of findings on programs: each shows the fault while it is there, and none without it."""

import ast
import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import ir.compilation
from ir.op import IrOp
from oracle.finding import Finding
from oracle.judges import JUDGES
from oracle.kinds import Terms, kind_named
from oracle.script import ScriptError
from oracle.scripts.sources import definitions
from oracle.subjects.programs.subject import Programs
from oracle.verdict import Outcome, Place, Verdict
from reference.model import ProgramCase, ProgramStep, Storage, Value, View

Patch = pytest.MonkeyPatch
LOWER = importlib.import_module("ir.compilation.lower")
PROGRAM = kind_named("program")
V = Value
STANDARD = {
    "functools", "hashlib", "sys", "collections", "contextlib", "dataclasses", "typing", "math",
    "operator", "struct",
}  # fmt: skip


def program(*steps: ProgramStep, outputs: tuple[int, ...], donated: int = 0) -> ProgramCase:
    """Steps on two inputs, float32[2, 4] and float32[4]."""
    contents = [np.arange(1, n + 1, dtype=np.float32) for n in (8, 4)]
    return ProgramCase(
        storages=tuple(Storage("float32", c.size, c.tobytes()) for c in contents),
        tensors=(View(0, (2, 4), (4, 1)), View(1, (4,), (1,))),
        inputs=(0, 1),
        steps=steps,
        outputs=outputs,
        donated=(0,) * donated,
    )


def norm(*operands: Any, overload: str = "default") -> ProgramStep:
    return ProgramStep(f"ir.rms_norm.{overload}", operands)


NORM = program(norm(V(0), V(1), 1e-5), outputs=(2,))
TWO_NORMS = program(norm(V(0), V(1), 1e-5), norm(V(0), V(1), 1.0), outputs=(2, 3))
READ_LATER = program(
    norm(V(0), None, 1e-5),
    ProgramStep("aten.mul.Tensor", (V(0), 2)),
    outputs=(2, 3),
)


def verdict(case: ProgramCase, route: str, judge: str) -> Verdict:
    observation = Programs().observe(case, "passes", route)
    evidence = PROGRAM.evidence(case, PROGRAM.expect(case, Terms()), observation, Terms())
    return JUDGES[judge].judge(evidence)


def script(case: ProgramCase, route: str, found: Verdict, subject: str = "ir") -> str:
    assert found.place is not None
    finding = Finding(
        fingerprint="0" * 12, property="lowering", subject=subject, op="program",
        provider="passes", route=route, judge=found.judge, kind=found.kind, contract="",
        device="cpu", case=case, place=found.place,
    )  # fmt: skip
    return PROGRAM.script(finding, PROGRAM.expect(case, Terms()))


def run(text: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The script's exit status, and what it prints first."""
    names: dict[str, Any] = {"__name__": "script"}
    exec(compile(text, "script.py", "exec"), names)
    code = names["main"]()
    return code, capsys.readouterr().out.splitlines()[0]


def shown(found: Place) -> str:
    """What the script calls the place."""
    return f"output {found.index[0]}:" if found.index else f"{found.name}:"


# Mutants.


def _off_without_the_wrap(patch: Patch) -> None:
    real = IrOp._inner_call
    patch.setattr(
        IrOp, "_inner_call", lambda self, *args, **kwargs: real(self, *args, **kwargs) + 1
    )


def _no_fake(patch: Patch) -> None:
    def fake(*_: Any) -> Any:
        raise RuntimeError("no such size")

    patch.setattr(IrOp.registry["rms_norm"], "_fake", fake)


def _off_native(patch: Patch) -> None:
    native = IrOp.registry["rms_norm"].impls["native"]
    real = native.func_impl_fn
    patch.setattr(type(native), "func_impl_fn", property(lambda _: lambda *args: real(*args) + 1))


def _no_clones(patch: Patch) -> None:
    def gone(graph: Any, **_: Any) -> Any:
        done = real(graph)
        for node in [n for n in graph.nodes if str(n.target) == "aten.clone.default"]:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
        return done

    real = ir.compilation.eliminate_clones
    patch.setattr(ir.compilation, "eliminate_clones", gone)


def _key_without(place: int) -> Callable[[Patch], None]:
    def apply(patch: Patch) -> None:
        whole = LOWER.make_key

        def weak(*args: Any, **kwargs: Any) -> Any:
            key = whole(*args, **kwargs)
            return (*key[:place], None, *key[place + 1 :])

        patch.setattr(LOWER, "make_key", weak)

    return apply


def _forgets(patch: Patch) -> None:
    cache = ir.compilation.ReplacementCache
    patch.setattr(cache, "keep", lambda *_args, **_options: None)


def _all_clones_go(patch: Patch) -> None:
    clones = importlib.import_module("ir.compilation.clones")
    patch.setattr(clones._Elimination, "_refusal", lambda *_: None)


def two_views(second: View) -> ProgramCase:
    """A clone of the first view is read after the second, of the same storage, was written."""
    steps = (
        ProgramStep("aten.clone.default", (V(0),)),
        ProgramStep("aten.add_.Tensor", (V(1), 1)),
        ProgramStep("aten.mul.Tensor", (V(2), 2)),
    )
    shown = program(*steps, outputs=(4,))
    return replace(shown, tensors=(View(0, (2, 4), (4, 1)), second))


MUTANTS: dict[str, tuple[Callable[[Patch], None], ProgramCase, str, str, str]] = {
    "an op straight to its provider": (
        _off_without_the_wrap, NORM, "unwrapped", "program-routes", "route-differs"
    ),
    "a fake run that raises": (
        _no_fake, NORM, "fx-unlowered", "program-completion", "raised"
    ),
    "a clone of what a provider writes": (
        _no_clones, READ_LATER, "fx-inplace", "program-values", "value"
    ),
    "a flat view of an input is written": (
        _all_clones_go, two_views(View(0, (8,), (1,))), "fx-blind", "program-values", "value"
    ),
    "an input given twice is written": (
        _all_clones_go, two_views(View(0, (2, 4), (4, 1))), "fx-blind", "program-values", "value"
    ),
    "the state of the process": (
        _key_without(5), NORM, "fx-perturbed", "program-cache", "cache-key-too-weak"
    ),
    "plain arguments": (
        _key_without(6), TWO_NORMS, "fx-warm", "program-cache", "cache-key-too-weak"
    ),
    "a cache that keeps nothing": (
        _forgets, NORM, "fx-warm", "program-cache", "traced-again"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_a_script_shows_the_fault_and_is_silent_without_it(
    monkeypatch: Patch, capsys: pytest.CaptureFixture[str], name: str
):
    break_it, case, route, judge, kind = MUTANTS[name]
    with monkeypatch.context() as patch:
        break_it(patch)
        found = verdict(case, route, judge)
        assert (found.outcome, found.kind) == (Outcome.DISAGREES, kind)
        text = script(case, route, found)
        code, first = run(text, capsys)
    assert code == 1
    assert found.place is not None
    assert first.startswith("call" if kind == "raised" else shown(found.place))
    assert run(text, capsys) == (0, "no fault")


@pytest.mark.parametrize("route", ["unwrapped", "fx-unlowered", "fx-cold"])
def test_a_script_holds_ops_of_the_ir_to_their_intervals(
    monkeypatch: Patch, capsys: pytest.CaptureFixture[str], route: str
):
    with monkeypatch.context() as patch:
        _off_native(patch)
        found = verdict(NORM, route, "program-steps")
        assert (found.outcome, found.kind) == (Outcome.DISAGREES, "value")
        text = script(NORM, route, found)
        assert run(text, capsys)[0] == 1
    assert run(text, capsys) == (0, "no fault")


def test_what_follows_from_the_program_alone_is_written_down():
    case = program(ProgramStep("aten.add_.Tensor", (V(1), 1)), outputs=(2,))
    found = Verdict(judge="program-inputs", outcome=Outcome.DISAGREES, place=place())
    text = script(case, "fx-unlowered", found)
    assert '"output 0": [2.0, 3.0, 4.0, 5.0]' in text
    assert '"storage 0": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]' in text
    assert "KNOWN = {}" in script(NORM, "fx-unlowered", found)


def place() -> Place:
    return Place(name="output", index=(0,), observed="1.0", expected="2.0")


SCRIPTS = [
    (route, judge, subject)
    for subject, routes in (
        ("ir", ("unwrapped", "fx-unlowered", "fx-cold", "fx-inplace", "fx-perturbed", "inductor")),
        ("torch", ("eager", "aot-eager", "inductor")),
    )
    for route in routes
    for judge in ("program-values", "program-steps", "program-cache")
    if judge != "program-cache" or route == "fx-perturbed"
]


@pytest.mark.parametrize(("route", "judge", "subject"), SCRIPTS)
def test_a_script_takes_only_torch_and_the_ir(route: str, judge: str, subject: str):
    found = Verdict(judge=judge, outcome=Outcome.DISAGREES, kind="value", place=place())
    taken: set[str] = set()
    for node in ast.walk(ast.parse(script(NORM, route, found, subject))):
        if isinstance(node, ast.Import):
            taken |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            taken.add((node.module or "").split(".")[0])
    assert taken - STANDARD <= {"torch", "ir"}


def test_a_script_on_stock_torch_needs_no_ir_where_the_program_has_none():
    case = program(ProgramStep("aten.add.Tensor", (V(1), 1)), outputs=(2,))
    found = Verdict(judge="program-values", outcome=Outcome.DISAGREES, place=place())
    for route in ("eager", "aot-eager", "inductor"):
        assert "ir" not in script(case, route, found, "torch").split()


def test_a_route_or_a_judge_without_a_script_is_refused():
    found = Verdict(judge="program-values", outcome=Outcome.DISAGREES, place=place())
    with pytest.raises(ScriptError, match=r"no script for route 'backward'; accepted: fx-cold"):
        script(NORM, "backward", found)
    with pytest.raises(ScriptError, match=r"no script for route 'fx-cold'; accepted: aot-eager"):
        script(NORM, "fx-cold", found, "torch")
    with pytest.raises(ScriptError, match="no script for subject 'reference'; accepted: ir, torch"):
        script(NORM, "reference", found, "reference")
    other = Verdict(judge="values", outcome=Outcome.DISAGREES, place=place())
    with pytest.raises(ScriptError, match=r"no script for judge 'values'; accepted: program-val"):
        script(NORM, "fx-cold", other)


def test_a_definition_is_taken_with_its_decorators():
    (text,) = definitions("calls", "target_of")
    assert text.startswith("@functools.cache\ndef target_of(name: str) -> Any:\n")
    with pytest.raises(KeyError, match="'nothing' in calls; accepted: Call, target_of"):
        definitions("calls", "nothing")
