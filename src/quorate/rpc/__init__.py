"""Ethereum JSON-RPC over HTTP and WebSocket, in a process of its own beside each validator.

Reads come from snapshots of the store, which never block its writer; the validator process is asked
only for the pool and for its status, over a Unix socket. So no reader can delay agreement.

Source: EIP-1474, the execution-apis specification, and where they are silent, what geth answers.
"""
