"""A block of uids that no other host on this machine uses while this one, or anything below it, lives."""

import socket

FIRST_UID = 20_000
BLOCK_UIDS = 1_024
MAX_BLOCKS = 40


class UidBlock:
    """Claimed through the name of an abstract socket, which the kernel frees with its last descriptor."""

    def __init__(self, first_uid: int) -> None:
        for number in range(MAX_BLOCKS):
            self._claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                self._claim.bind(f"\0evenflow-uids-{first_uid + number * BLOCK_UIDS}")
            except OSError:
                self._claim.close()
                continue
            self.first_uid = first_uid + number * BLOCK_UIDS
            return
        raise ValueError(
            f"sandbox.first_uid (EVENFLOW_SANDBOX_FIRST_UID) {first_uid}: all {MAX_BLOCKS} blocks of "
            f"{BLOCK_UIDS} uids from there are in use by other hosts"
        )

    @property
    def fd(self) -> int:
        """To be kept open by whatever may outlive this process."""
        return self._claim.fileno()

    def close(self) -> None:
        """Let the block go."""
        self._claim.close()
