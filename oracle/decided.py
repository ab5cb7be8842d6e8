"""What a run selected and did not decide, or hardly: read off its tally."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from oracle.kinds import kind_named, kind_of_op
from oracle.plan import Property, Selection, wanted_routes
from oracle.properties import PROPERTIES
from oracle.subject import Provider
from oracle.tally import Tally

TELLING = 20
"""Telling cases that every (op, provider, dtype, route) of a quick run is to be decided in."""


def chosen_properties(selection: Selection) -> tuple[Property, ...]:
    """The properties that ``selection`` names, all where it names none."""
    return tuple(PROPERTIES[name] for name in selection.properties or PROPERTIES)


def nothing_decided(
    selection: Selection, providers: Mapping[str, tuple[Provider, ...]], tally: Tally
) -> tuple[str, ...]:
    """What was selected and decided no case: a run that says nothing about it has failed.

    A route on which no judge decided is named alone; on the others, each judge that was UNDECIDED
    and never anything else that decides: what agrees with its neighbours is none of its answers.
    """
    missing: list[str] = []
    for subject, group in providers.items():
        for provider in group:
            if not selection.selects(provider):
                continue
            if provider.unavailable:
                if selection.providers:
                    missing.append(
                        f"{subject} {provider.op} {provider.name}: {provider.unavailable}"
                    )
                continue
            for prop in chosen_properties(selection):
                for route in wanted_routes(selection, prop, provider):
                    cell = (subject, prop.name, provider.op, provider.name, route)
                    if not tally.decided[cell]:
                        missing.append(" ".join(cell))
    for cell, judge, reasons in tally.silent():
        why = ", ".join(f"{kind} {count:,}" for kind, count in reasons.items())
        missing.append(f"{' '.join(cell)}, judge {judge}: {why}")
    if not any(tally.decided.values()):
        missing.append(f"no case was decided at all{_why(selection, providers)}")
    return tuple(missing)


def _why(selection: Selection, providers: Mapping[str, tuple[Provider, ...]]) -> str:
    """What the selection left: no provider, or none that goes one of the routes."""
    every = [p for group in providers.values() for p in group]
    chosen = [p for p in every if selection.selects(p)]
    if not chosen:
        named = [f"{p.op} {p.name}" for p in every if p.name in selection.providers]
        return f": no op of the selection has the provider; there is {', '.join(named)}"
    if not selection.routes or any(_routes(selection, p) for p in chosen):
        return ""
    anywhere = replace(selection, routes=())
    told = "; ".join(f"{p.op} {p.name} goes {', '.join(_routes(anywhere, p))}" for p in chosen)
    compiled = any(route.startswith("compiled") for route in selection.routes)
    hint = ", compiled routes only if registered with compilable=True" if compiled else ""
    return f": {told}{hint}"


def _routes(selection: Selection, provider: Provider) -> list[str]:
    """The routes of a selection's properties that a provider is driven through."""
    every = (wanted_routes(selection, prop, provider) for prop in chosen_properties(selection))
    return list(dict.fromkeys(route for routes in every for route in routes))


def little_decided(
    selection: Selection, providers: Mapping[str, tuple[Provider, ...]], tally: Tally
) -> tuple[str, ...]:
    """Value cells with fewer telling cases than a quick run promises."""
    thin: list[str] = []
    numerics = PROPERTIES["numerics"]
    if numerics not in chosen_properties(selection):
        return ()
    for subject, group in providers.items():
        for provider in group:
            if provider.unavailable or not selection.selects(provider):
                continue
            if provider.op not in kind_named(numerics.kind).ops:
                continue
            for dtype in kind_of_op(provider.op).dtypes(provider.op):
                if selection.dtypes and dtype not in selection.dtypes:
                    continue
                for route in wanted_routes(selection, numerics, provider):
                    cell = (subject, provider.op, provider.name, dtype, route)
                    cases = tally.telling.get(cell, ())
                    if len(cases) < TELLING:
                        thin.append(f"{' '.join(cell)}: {len(cases)} telling cases")
    return tuple(thin)
