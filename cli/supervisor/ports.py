"""Looks whether the doors' addresses are free before anything starts."""

import socket

from cli.failures import CliError


def split_address(address: str) -> tuple[str, int]:
    """HOST and PORT. CliError: no such form."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise CliError(f"{address!r} is no address: HOST:PORT is expected")
    return host.strip("[]"), int(port)


def check_free(address: str, option: str) -> None:
    """Pass when a server may listen there. CliError names the port and the option that chooses another."""
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: a connection of the last fleet in TIME_WAIT is no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as e:
            text = e.strerror or str(e)
            if e.errno == 98:
                raise CliError(
                    f"port {port} is taken on {host}: stop what listens there, or choose another with {option}"
                ) from None
            raise CliError(f"cannot listen on {address}: {text} (see {option})") from None


def free_port() -> int:
    """A TCP port on the loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
