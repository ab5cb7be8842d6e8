"""Per family of ops: their contracts, and what inputs are legal. Mirrors ``ir/ops``."""
