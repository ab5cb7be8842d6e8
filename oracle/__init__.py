"""The judges and the one engine: a subject and the reference on a case, and what follows."""
