"""The shapes of a drawn plan, in pixels, and what all its pictures share."""

from __future__ import annotations

from dataclasses import dataclass

WIDTH = 1120.0
LEFT = 74.0
"""Room for the names of the two rows."""
TOP = 38.0
STRIP = 24.0
BETWEEN = 116.0
"""Between the two rows of strips."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """One slot or block. `colour` is ``o`` and a producer rank, ``b0`` or ``b1``, or nothing."""

    x: float
    y: float
    width: float
    height: float
    colour: str
    label: str
    title: str
    style: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """A ribbon from the upper row to the lower one, as an SVG path."""

    path: str
    colour: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    x: float
    y: float
    text: str
    style: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One picture: its size, what it is called, and its shapes."""

    name: str
    width: float
    height: float
    boxes: tuple[Box, ...]
    bands: tuple[Band, ...]
    labels: tuple[Label, ...]


def band_path(
    upper: tuple[float, float], top: float, lower: tuple[float, float], bottom: float
) -> str:
    """A ribbon from the x of both its upper corners to those of its lower ones."""
    middle = (top + bottom) / 2
    return (
        f"M{upper[0]:.1f} {top:.1f}"
        f"C{upper[0]:.1f} {middle:.1f} {lower[0]:.1f} {middle:.1f} {lower[0]:.1f} {bottom:.1f}"
        f"H{lower[1]:.1f}"
        f"C{lower[1]:.1f} {middle:.1f} {upper[1]:.1f} {middle:.1f} {upper[1]:.1f} {top:.1f}Z"
    )
