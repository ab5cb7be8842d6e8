"""Captured functions of ``ir.capture``, driven through events."""
