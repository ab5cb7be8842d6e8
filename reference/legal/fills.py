"""Fills that several ops draw their activations from."""

ACTIVATIONS = (
    "dyadic",
    "normal",
    "uniform",
    "outlier",
    "wide",
    "shifted",
    "special",
    "special-finite",
    "signed-zero",
    "subnormal",
)

QUANTIZED = (*ACTIVATIONS, "scale-edge")
"""Where a scale follows from the largest magnitude of a row or group."""
