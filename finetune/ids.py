"""Names that nobody else has: of jobs, promotions, workers and sittings; and who asks."""

import getpass
import os
import secrets
import socket
import string

_ALPHABET = string.ascii_lowercase + string.digits


def new_job_id() -> str:
    """`ft_` and ten letters or digits, at random."""
    return f"ft_{_random()}"


def new_promotion_id() -> str:
    """`pr_` and ten letters or digits, at random."""
    return f"pr_{_random()}"


def new_token() -> str:
    """What tells one holder of a lease from the next, where no row outlives both to count them."""
    return secrets.token_hex(8)


def _random() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(10))


def worker_name() -> str:
    """`host:pid:random`: this process in leases, also when its number is used again."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"


def login() -> str:
    """Who runs this process, by the system's account."""
    try:
        return getpass.getuser()[:64]
    except (KeyError, OSError):
        # A container may run under a number that has no name.
        return "unknown"
