"""Programs as torch runs them: step by step, as graphs through passes, and compiled."""
