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
