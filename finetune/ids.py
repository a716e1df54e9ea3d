"""Names that nobody else has: of jobs and of workers."""

import os
import secrets
import socket
import string

_ALPHABET = string.ascii_lowercase + string.digits


def new_job_id() -> str:
    """`ft_` and ten letters or digits, at random."""
    return "ft_" + "".join(secrets.choice(_ALPHABET) for _ in range(10))


def worker_name() -> str:
    """`host:pid:random`: this process in leases, also when its number is used again."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
