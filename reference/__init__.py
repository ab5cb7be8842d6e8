"""What every part of the IR means: slow, obvious and independent of torch and of ``ir``."""
