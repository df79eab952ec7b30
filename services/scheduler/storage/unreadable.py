"""What makes a document one that cannot be read: whoever loads one at the start of the scheduler goes on without it."""

from __future__ import annotations

UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What reading a document may raise that somebody else, or nobody in their right mind, wrote."""
