"""The file system, used safely.

folder
    An open directory. Everything below is reached relative to its descriptor, part by part, never through a symlink.
durable
    Survives power loss: the bytes were fsynced, and so was the directory that names them.
"""

from federated_memory.fs.folder import Folder, NotRegular
from federated_memory.fs.lock import RootLock

__all__ = ["Folder", "NotRegular", "RootLock"]
