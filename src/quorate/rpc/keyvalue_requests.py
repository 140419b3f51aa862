"""What clients of the framed port ask; `keyvalue_framed.py` says what each kind means."""

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

__all__ = ["Request"]

Number: TypeAlias = Annotated[int, Meta(ge=0, lt=1 << 53)]
Key: TypeAlias = Annotated[bytes, Meta(min_length=0, max_length=1024)]


class Request(Struct, frozen=True, array_like=True, gc=False):
    """Any request: what follows number and kind is read by its kind."""

    number: Number
    kind: int
    first: bytes | list[Key] | int
    second: bool = True
    third: Number = 0
