"""The SDK: everything a server offers over HTTP, typed, for programs in Python (SPEC: SDK-1 to SDK-5).

    with MemoryClient() as memory:
        memory.register(machine="box", tool="ci", project="shop")
        memory.state.set("build/main", "green")

`AsyncMemoryClient` has the same calls to await. Address and token come from `MCP_MEMORY_URL` and `MCP_MEMORY_TOKEN`.
Errors are those of `federated_memory.errors`, as the server raised them. Nothing of the server is imported.
"""

from federated_memory.client.asynchronous import AsyncMemoryClient, AsyncSubscription
from federated_memory.client.collaboration import Write
from federated_memory.client.events import ChangeEvent, RoomEvent
from federated_memory.client.synchronous import MemoryClient, Subscription

__all__ = [
    "AsyncMemoryClient",
    "AsyncSubscription",
    "ChangeEvent",
    "MemoryClient",
    "RoomEvent",
    "Subscription",
    "Write",
]
