"""The kinds of error that code may handle; anything else is our own bug and stops the node.

They are the kernel's own classes, so that an error means the same on both sides of the boundary.
"""

from quorate._kernel import Corrupt, Invalid, Unavailable

__all__ = ["Corrupt", "Invalid", "Unavailable"]
