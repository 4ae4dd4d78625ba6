"""The library of start networks, each named by the hash of its content."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from rlnas.errors import GraphError, StoreError
from rlnas.network import Network


class StartLibrary:
    """Networks that episodes start from, in memory and, given a folder, one sub-folder each on disk.

    Args:
        folder: Where networks are kept; made when the first one is added. None keeps them in memory only.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self._folder = None if folder is None else Path(folder)
        self._known: dict[str, Network] = {}

    def add(self, network: Network) -> str:
        """Keep a network and give its name.

        Raises:
            StoreError: If the folder cannot be written.
        """
        start_id = network.content_hash
        if self._folder is not None and not (self._folder / start_id).is_dir():
            try:
                self._write(network, self._folder)
            except OSError as error:
                raise StoreError(f"cannot keep the start network in {self._folder}: {error.strerror}") from error
        self._known[start_id] = network
        return start_id

    def get(self, start_id: str) -> Network:
        """The network of that name.

        Raises:
            StoreError: If there is none, or its files are damaged or hold another network.
        """
        if start_id not in self._known:
            if self._folder is None:
                raise StoreError(f"no start network {start_id!r} in memory")
            path = self._folder / start_id
            if not path.is_dir() or path.parent != self._folder:
                raise StoreError(f"no start network {start_id!r} in {self._folder}")
            try:
                network = Network.load(path)
            except GraphError as error:
                raise StoreError(f"the start network in {path} is damaged: {error}") from error
            if network.content_hash != start_id:
                raise StoreError(f"{path} holds the network {network.content_hash}, not the one it is named after")
            self._known[start_id] = network
        return self._known[start_id]

    def ids(self) -> list[str]:
        """Names of all networks, sorted."""
        found = set(self._known)
        if self._folder is not None and self._folder.is_dir():
            found |= {path.name for path in self._folder.iterdir() if path.is_dir() and path.name[0] != "."}
        return sorted(found)

    @staticmethod
    def _write(network: Network, folder: Path) -> None:
        """Write beside the final place and rename: a folder with a start's name is always whole."""
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".adding-", dir=folder))
        try:
            network.save(temporary)
            temporary.chmod(0o755)
            os.rename(temporary, folder / network.content_hash)
        except FileExistsError:
            pass  # another process was faster
        except OSError as error:
            if not (folder / network.content_hash).is_dir():
                raise error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
