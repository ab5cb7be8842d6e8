"""Where cases come from: strategies over what the reference declares legal, real shapes, corpus."""
