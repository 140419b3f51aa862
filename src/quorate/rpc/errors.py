"""JSON-RPC errors: codes and messages as clients match on them.

Source: JSON-RPC 2.0 section 5.1, EIP-1474, EIP-7966, and geth's wording where SDKs compare strings.
"""

import msgspec

from quorate._kernel import Corrupt, Invalid, Rejected, Reverted, Unavailable

PARSE = -32700
INVALID_REQUEST = -32600
NO_METHOD = -32601
INVALID_PARAMS = -32602
INTERNAL = -32603
SERVER = -32000
"""What geth uses for anything without a code of its own: transactions refused, unknown headers."""
UNAVAILABLE = -32002
TOO_LARGE = -32003
LIMIT = -32005
PRUNED = 4444
"""EIP-4444: it was there, and is not kept."""
REVERTED = 3
SYNC_TIMEOUT = 4
"""EIP-7966: the transaction was taken, its receipt did not come in time."""


class RpcError(Exception):
    """An answer that is an error object; `data` is JSON."""

    def __init__(self, code: int, message: str, data: bytes | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def encode(self) -> bytes:
        """Return the JSON of the error object."""
        message = msgspec.json.encode(self.message)
        if self.data is None:
            return b'{"code":%d,"message":%b}' % (self.code, message)
        return b'{"code":%d,"message":%b,"data":%b}' % (self.code, message, self.data)


class BadArgument(Exception):
    """A parameter does not parse; the dispatcher adds which one."""


def invalid_params(message: str) -> RpcError:
    return RpcError(INVALID_PARAMS, message)


def translate(error: Exception) -> RpcError | None:
    """Return the answer for what a client or the world caused, None for a bug of ours."""
    if isinstance(error, RpcError):
        return error
    if isinstance(error, Reverted):
        message, output = error.args
        return RpcError(REVERTED, message, b'"0x%b"' % output.hex().encode())
    if isinstance(error, Rejected) and len(error.args) == 2:
        message, code = error.args
        return RpcError(code, message)
    if isinstance(error, Rejected | Unavailable):
        return RpcError(SERVER, str(error))
    if isinstance(error, Invalid):
        return RpcError(INVALID_PARAMS, str(error))
    if isinstance(error, TimeoutError):
        return RpcError(UNAVAILABLE, "request timed out")
    if isinstance(error, Corrupt):
        return RpcError(INTERNAL, f"the ledger's store is damaged: {error}")
    return None
