"""Where the files of a network and of each validator lie."""

from pathlib import Path

from msgspec import Struct

from quorate.base.errors import Invalid
from quorate.runtime.config import FILE_NAME

__all__ = ["Folder", "check_owner_alone", "get_network_path", "make_private"]


class Folder(Struct, frozen=True):
    """The files of one validator; all readable by their owner alone."""

    path: Path

    @staticmethod
    def of(network_folder: Path, index: int) -> "Folder":
        """Return the folder of validator `index` inside a network's folder."""
        return Folder(network_folder / f"validator-{index}")

    @property
    def key(self) -> Path:
        return self.path / "key.json"

    @property
    def tls_key(self) -> Path:
        return self.path / "tls.key"

    @property
    def tls_certificate(self) -> Path:
        return self.path / "tls.crt"

    @property
    def journal(self) -> Path:
        return self.path / "journal"

    @property
    def ledger(self) -> Path:
        return self.path / "ledger"

    @property
    def socket(self) -> Path:
        return self.path / "node.sock"

    @property
    def pid(self) -> Path:
        return self.path / "validator.pid"

    @property
    def log(self) -> Path:
        return self.path / "validator.log"


def get_network_path(folder: Path) -> Path:
    return folder / FILE_NAME


def make_private(path: Path) -> None:
    """Create a folder for its owner alone, or make it so."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_mode & 0o077:
        path.chmod(0o700)


def check_owner_alone(path: Path) -> None:
    """Raise Invalid when others may read a secret file."""
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise Invalid(f"{path}: found permissions {mode:o}, expected 600 (chmod 600 {path})")
