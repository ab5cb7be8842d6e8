"""Plans proved for all sizes: formulas over symbols, taken from the planner, given to z3."""
