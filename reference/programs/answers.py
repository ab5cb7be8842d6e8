"""What stops a step: the program must be refused there, or the reference cannot say what follows.

Rules raise these two; the machine turns them into values. Neither leaves anything written.
"""

from __future__ import annotations


class Refused(Exception):
    """torch must refuse the step. ``rule`` says what it breaks, in a fixed short sentence."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


class NotKnown(Exception):
    """What the step does is nobody's promise, or beyond this reference.

    ``because`` is a fixed kebab-case slug.
    """

    def __init__(self, because: str) -> None:
        super().__init__(because)
        self.because = because
