"""How a script calls what it shows: a user's function alone, or an op of ``ir`` on its route."""

from __future__ import annotations

import ast
import re

from oracle.finding import Finding
from oracle.subjects.ir_routes import token_dims as token_dims
from reference.expectation import Expectation, Expected
from reference.legal import DECLARATIONS
from reference.model import OpCase

from . import piece

NO_FAULT = 70
_DECLINES = """\
{indent}if {refused}:
{indent}    print("no fault: the provider declines these arguments")
{indent}    raise SystemExit({status})
"""
_CLONE = """\
    if impl.inplace:  # the default overload gives such a provider copies of its activations
        arguments |= {{n: arguments[n].clone() for n in {activations} if arguments[n] is not None}}
"""


def runs_alone(finding: Finding) -> bool:
    """Whether the user's function can show the fault without ``ir``.

    Refusals are made by the op before a provider runs, a fake run is the op's own, states are kept
    by ``ir``, and a file that imports a module of it for what it computes needs no stand-in.
    """
    return (
        finding.source is not None
        and not DECLARATIONS[finding.op].states
        and finding.judge != "refusal"
        and finding.kind != "fake-raises"
        and not _computes_with_ir(finding.source.text)
    )


_REGISTERING = ("ir.errors", "ir.op", "ir.ops")


def _computes_with_ir(text: str) -> bool:
    """Whether a file imports more of ``ir`` than ops and the places where one registers."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            modules = {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            ops = all(alias.name in DECLARATIONS for alias in node.names)
            modules = set() if ops else {node.module or ""}
        else:
            continue
        if any(m.startswith("ir.") and m not in _REGISTERING for m in modules):
            return True
    return False


def needs_child(finding: Finding) -> bool:
    """Whether the fault takes the process that shows it down, or never lets it end."""
    return finding.kind in ("crash", "timeout")


def no_fault(finding: Finding) -> int:
    """The exit status that says there is no fault: a child's is one that no accident gives."""
    return NO_FAULT if needs_child(finding) else 0


def provider_pieces(finding: Finding) -> list[str]:
    """The user's file and what stands in for ``ir``, or nothing where the provider is ``ir``'s."""
    source = finding.source
    if source is None:
        return []
    standin = standin_pieces(source.text) if runs_alone(finding) else []
    return [*standin, piece("load")]


def standin_pieces(text: str) -> list[str]:
    """What stands in for ``ir`` in the eyes of a file: as much of it as the file names."""
    lines = [piece("standin")]
    if re.search(r"\bregister_op\b", text):
        lines += ["\n", piece("register_op")]
    if re.search(r"torch_wrap\b", text):
        lines.append("ir.enable_torch_wrap = lambda *_: contextlib.nullcontext()")
        lines.append("ir.set_default_torch_wrap = lambda *_: None")
    if re.search(r"\bIrOp", text):
        lines.append("ir.IrOp, ir.IrOpImpl = Op, types.SimpleNamespace")
    if re.search(r"\bInputError\b", text):
        lines.append('ir.InputError = type("InputError", (ValueError,), {})')
    if re.search(r"\bir\.(op|errors)\b", text):
        lines.append('sys.modules |= {"ir.op": ir, "ir.errors": ir}')
    for family in sorted(set(re.findall(r"\bir\.ops\.(\w+) import\b", text))):
        lines.append(f'sys.modules["ir.ops.{family}"] = ops')
    if re.search(r"\bvllm\b", text):
        lines.append('vllm = sys.modules["vllm"] = types.ModuleType("vllm")')
        lines.append("vllm.__path__, vllm.ir = [], ir")
        lines.append(
            'sys.modules |= {f"vllm.{k}": m for k, m in [*sys.modules.items()] if m in (ir, ops)}'
        )
    return ["\n".join(lines)]


def embedded(text: str) -> str:
    """A Python literal that is exactly ``text``: the text as it stands where one can hold it."""
    for quotes in ("'''", '"""'):
        literal = f"r{quotes}{text}{quotes}"
        try:
            if ast.literal_eval(literal) == text:
                return literal
        except (SyntaxError, ValueError):
            # The text holds these quotes, ends in a backslash, or has a byte no source may have.
            continue
    lines = "\n".join(f"    {line!r}" for line in text.splitlines(keepends=True)) or "    ''"
    return f"(\n{lines}\n)"


def call_form(case: OpCase) -> str:
    """The arguments as the case gives them, by position and by name."""
    return ", ".join(
        f'{a.name}=arguments["{a.name}"]' if a.keyword else f'arguments["{a.name}"]'
        for a in case.arguments
        if a.name not in {spec.name for spec in DECLARATIONS[case.op].states}
    )


def states_piece(case: OpCase) -> str:
    """``states(arguments)``, ``left(arguments)``: what the op finds in its states and leaves."""
    declaration = DECLARATIONS[case.op]
    values: dict[str, str] = {}
    for spec in declaration.states:
        name, _, entry = spec.state.partition(".")
        text = f'arguments["{spec.name}"]'
        if entry:
            before = values.get(name, "").strip("{}")
            values[name] = f'{{{before}{", " if before else ""}"{entry}": {text}}}'
        else:
            values[name] = text
    held = "\n".join(f'    ir.ir_state.replace("{n}", {v})' for n, v in values.items())
    left = "".join(
        f'arguments["{o.left_in}"], ' for o in declaration.outputs if o.left_in is not None
    )
    room = _ROOM if case.op == "paged_decode_attention" else ""
    return piece("states", values=held, room=room, left=f"({left.strip()})")


_ROOM = """
    n, heads, size = arguments["query"].shape
    reserve_workspace(tokens=n, heads=heads, head_size=size)"""


def overload(finding: Finding) -> str:
    """The op's overload as an expression over ``op``."""
    return "op.maybe_inplace" if finding.case.overload == "maybe_inplace" else "op"


def call_pieces(finding: Finding, expected: Expectation | None) -> list[str]:
    """``call(arguments)`` and what it needs: the finding's provider on the finding's route."""
    return _alone(finding, expected) if runs_alone(finding) else _through_ir(finding)


def _alone(finding: Finding, expected: Expectation | None) -> list[str]:
    declaration, text = DECLARATIONS[finding.op], finding.source.text if finding.source else ""
    activations = tuple(n for n in declaration.activations if n in finding.case.views())
    inplace = finding.case.overload == "maybe_inplace"
    pieces: list[str] = []
    function = "impl.impl_fn"
    if finding.route.startswith("compiled-"):
        exact = ', options={"emulate_precision_casts": True}'
        pieces = [piece("compiled", options=exact if finding.route == "compiled-exact" else "")]
        function = "compiled(impl.impl_fn)"
    elif finding.route in ("opaque", "caller") and isinstance(expected, Expected):
        mutated = list(activations) if inplace else []
        backend = "aot_eager" if finding.route == "opaque" else "inductor"
        pieces = [piece("fake_outputs"), piece("traced", mutated=repr(mutated), backend=backend)]
        function = "traced(impl.impl_fn, impl.impl_fn, metadata)"
    form = call_form(finding.case)
    prepare = ""
    if "supports_args" in text:
        refused = f'"supports_args" in vars(impl) and not impl.supports_args({form})'
        prepare += _DECLINES.format(indent=" " * 4, refused=refused, status=no_fault(finding))
    if "inplace" in text and not inplace:
        prepare += _CLONE.format(activations=activations).replace(
            "impl.inplace", 'getattr(impl, "inplace", False)'
        )
    call = piece("call_standin", prepare=prepare, function=function, call=form)
    return [*pieces, call]


def _through_ir(finding: Finding) -> list[str]:
    pieces: list[str] = []
    function, form = overload(finding), call_form(finding.case)
    mode = {"compiled-exact": '"exact"', "compiled-stock": "True"}.get(finding.route, "False")
    if finding.route == "opaque":
        activations = list(DECLARATIONS[finding.op].activations)
        mutated = activations if finding.case.overload == "maybe_inplace" else []
        pieces = [piece("traced", mutated=repr(mutated), backend="aot_eager")]
        function = f'traced({function}, op.impls["native"].impl_fn, op.torch_op)'
        # An opaque op is the place that compiled native is made for.
        mode = '"exact" if op.impls[PROVIDER].compilable and has_compiler() else False'
    elif finding.route == "caller":
        pieces = [piece("compiled", options="")]
        function = f"compiled({function})"
    prepare = ""
    if finding.judge != "refusal":
        refused = f"op.dispatch({form}).provider != PROVIDER"
        prepare += _DECLINES.format(indent=" " * 8, refused=refused, status=no_fault(finding))
    if finding.route in ("opaque", "caller"):
        # The token count is left open, as in the run that found the fault.
        prepare += "".join(
            f'        mark_unbacked(arguments["{name}"], {dim})\n'
            for name, dim in token_dims(finding.case)
        )
    call = piece(
        "call_ir",
        # Native last, as the engine has it: an op without a fallback warns.
        order='["native"]' if finding.provider == "native" else '[PROVIDER, "native"]',
        mode=mode,
        wrap=str(finding.route != "eager-unwrapped"),
        prepare=prepare,
        function=function,
        call=form,
    )
    if finding.source is None and finding.provider != "native":
        call = call.replace("    op = getattr", "    ir.kernels.load()\n    op = getattr", 1)
    if DECLARATIONS[finding.op].states:
        call = call.replace("    with op.set", "    states(arguments)\n    with op.set", 1)
        returned = "result if isinstance(result, (tuple, list)) else (result,)"
        call = call.replace(returned, f"(*({returned}), *left(arguments))", 1)
        pieces.append(states_piece(finding.case))
    return [*pieces, call]
