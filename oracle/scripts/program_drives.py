"""How a finding's route drives its program, as the text of its script."""

from __future__ import annotations

import ast

from oracle.finding import Finding
from oracle.program_text import operand_text
from oracle.script import ScriptError
from reference.model import ProgramCase

from . import piece
from .sources import definitions

OWN = "passes"
STANDING = "program_register"
"""The piece that stands in for ``ir`` where a user's file needs only the registry of it."""

_COMPILED = {"backend": "fx", "inductor": "inductor"}
_STOCK = {"aot-eager": '"aot_eager"', "inductor": '"inductor"'}
_LOWERED = ("fx-cold", "fx-warm", "fx-uncached", "fx-inplace", "fx-blind")
_ACCEPTED = (*_LOWERED, *_COMPILED, "fx-pass", "fx-unlowered", "fx-perturbed", "unwrapped")
_PAIRS = (
    "NORMS", "Given", "OneCall", "call_at", "_given", "neighbours", "_shared", "_with", "_states",
    "_Switched", "_lowered", "_graph",
)  # fmt: skip
_STRUCTURE = ("structure", "_hash", "_text", "_value", "_constant", "_bytes")
_EXACT = '"emulate_precision_casts": True'


def program_lines(finding: Finding) -> str:
    """The program as a function; as a second one, its ops of the IR straight, where it is."""
    if finding.subject == "torch":
        return _function(finding.case, "program", 'ir.ops.{}.impls["native"].impl_fn')
    whole = _function(finding.case, "program")
    if finding.route != "unwrapped":
        return whole
    return f"{whole}\n\n\n{_function(finding.case, 'straight', 'ir.ops.{}', overloaded=True)}"


def _function(case: ProgramCase, name: str, op: str = "", *, overloaded: bool = False) -> str:
    """``op`` is the text of an op of the IR by its name; empty for the op of torch."""
    names = [f"x{i}" for i in range(len(case.inputs))]
    lines = [f"def {name}({', '.join(names)}):"]
    for step in case.steps:
        made = [f"v{len(names) + k}" for k in range(step.results)]
        given = [operand_text(o, names, torch="torch.") for o in step.operands]
        given += [f"{key}={operand_text(o, names, torch='torch.')}" for key, o in step.keywords]
        left = f"{', '.join(made)}{',' if _is_list(step.target) and len(made) == 1 else ''} = "
        called = f"torch.ops.{step.target}"
        if op and step.target.startswith("ir."):
            _, plain, overload = step.target.split(".")
            called = op.format(plain)
            called += ".maybe_inplace" if overloaded and overload == "maybe_inplace" else ""
        lines.append(f"    {left if made else ''}{called}({', '.join(given)})")
        names += made
    lines.append(f"    return ({''.join(f'{names[n]}, ' for n in case.outputs).strip()})")
    return "\n".join(lines)


def _is_list(target: str) -> bool:
    return target.split(".")[1] in ("split", "chunk", "unbind")


def drives(finding: Finding) -> list[str]:
    """Functions ``step_by_step`` and ``passed``, and ``graph`` where there is one.

    Raises ``ScriptError`` for a route that has none.
    """
    route, own_claim = finding.route, finding.judge == "program-cache"
    if finding.subject == "torch":
        return [_stock(route)]
    if route not in _ACCEPTED:
        raise ScriptError(f"no script for route {route!r}; accepted: {', '.join(_ACCEPTED)}")
    if route in _COMPILED:
        options = f'{{"run": "{_COMPILED[route]}", "cache": None'
        options += f", {_EXACT}}}" if route == "inductor" else "}"
        return [piece("program_compiled", backend="ir.compilation.backend", options=options)]
    if route == "unwrapped":
        return [piece("program_unwrapped")]
    if route == "fx-perturbed" and not own_claim:
        # The program itself only runs step by step there.
        return [piece("program_direct")]
    graph = _graph(finding)
    if own_claim:
        return [*graph, *_keys(route)]
    providers = definitions("inplace") if route == "fx-inplace" else []
    return [*graph, *providers, _passes(finding), piece("program_passed")]


def _graph(finding: Finding) -> list[str]:
    """How the graph is made; on the blind route no argument's metadata names another's memory."""
    if finding.route != "fx-blind":
        return [piece("program_graph", told="x")]
    case = finding.case
    shapes = {(v.storage, v.shape) for v in map(case.input_view, range(len(case.inputs)))}
    if len({storage for storage, _ in shapes}) == len(shapes):
        return [piece("program_graph", told="x.clone()")]
    return [piece("program_alone"), piece("program_graph", told="alone(x, arguments)")]


def _stock(route: str) -> str:
    if route == "eager":
        return piece("program_direct")
    if route not in _STOCK:
        raise ScriptError(f"no script for route {route!r}; accepted: {', '.join(_STOCK)}")
    options = f"{{{_EXACT}}}" if route == "inductor" else "None"
    return piece("program_compiled", backend=_STOCK[route], options=options)


def _keys(route: str) -> list[str]:
    """What is needed to compare graphs, and on the route of neighbours to make them."""
    compared = definitions("structure", *_STRUCTURE)
    if route != "fx-perturbed":
        return compared
    providers = [*definitions("sensitive"), *definitions("inplace")]
    return [*compared, *providers, *definitions("calls", "target_of"),
            *definitions("perturbing", *_PAIRS)]  # fmt: skip


def _passes(finding: Finding) -> str:
    route, donated = finding.route, finding.case.donated
    lines = ["def run_passes(module):"]
    if route == "fx-unlowered":
        return "\n".join([*lines, '    """None: the graph is run as it is."""'])
    lines.append('    """What is judged, on a graph whose nodes have values."""')
    if finding.provider != OWN:
        registry = "PASSES" if stands_alone(finding) else "ir.compilation.registry.PASSES"
        return "\n".join([*lines, f"    {registry}[PROVIDER](module.graph)"])
    lower = "ir.compilation.lower(module.graph, cache={})"
    match route:
        case "fx-warm":
            lines += [
                "    cache = ir.compilation.ReplacementCache()",
                "    ir.compilation.lower(graph(inputs()[1]).graph, cache=cache)",
                f"    {lower.format('cache')}",
            ]
        case "fx-inplace":
            lines += ["    with inplace_providers():", f"        {lower.format('None')}"]
        case "fx-cold" | "fx-uncached" | "fx-blind":
            lines.append(f"    {lower.format('None')}")
    lines.append(f"    ir.compilation.eliminate_clones(module.graph, donated={donated})")
    return "\n".join(lines)


def stands_alone(finding: Finding) -> bool:
    """Whether a user's file needs no more of ``ir`` than the place where a pass registers."""
    if finding.source is None or any(s.target.startswith("ir.") for s in finding.case.steps):
        return False
    taken: set[str] = set()
    for node in ast.walk(ast.parse(finding.source.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ir":
            taken |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute) and "ir.compilation" in ast.unparse(node.value):
            taken.add(node.attr)
    return taken <= {"register_pass", "compilation"}
