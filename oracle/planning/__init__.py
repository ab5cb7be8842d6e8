"""``irverify plan``: what two engines would transfer, planned by ``ir.transfer`` and shown."""
