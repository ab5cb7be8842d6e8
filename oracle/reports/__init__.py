"""Handlers of the engine's event stream: what people and programs read."""
