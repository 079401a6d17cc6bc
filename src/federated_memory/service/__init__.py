"""What the server can do: one module per capability, shared by every front door.

Each method takes the caller, asks the policy, acts on the store and returns a result model. All of it is blocking;
front doors run it in worker threads. Results are shaped to a byte budget here, so that no front door cuts text.
"""
