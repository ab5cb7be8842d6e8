"""The pieces that findings' scripts are made of: templates, and memory as Python text."""

from __future__ import annotations

from functools import cache
from importlib import resources
from string import Template


@cache
def _template(name: str) -> Template:
    return Template(resources.files(__name__).joinpath(f"{name}.tmpl").read_text(encoding="utf-8"))


def piece(name: str, **values: str) -> str:
    """The template ``name`` with ``values`` put in, without the line ends around it.

    Raises ``KeyError`` for a value that the template wants and ``values`` has not.
    """
    return _template(name).substitute(values).strip("\n")
