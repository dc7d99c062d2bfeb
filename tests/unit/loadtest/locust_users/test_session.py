"""What `make load` starts."""

from loadtest.locust_users.session import DEFAULTS, locust_command


def test_without_arguments_it_is_a_headless_open_loop_with_two_workers() -> None:
    command = locust_command("http://127.0.0.1:9", "127.0.0.1:10", [])
    assert command[-len(DEFAULTS) :] == list(DEFAULTS)
    assert {"--headless", "--open-rate", "--processes"} <= set(command)
    assert command[command.index("--host") + 1] == "http://127.0.0.1:9"


def test_arguments_take_the_place_of_the_defaults_but_not_of_the_doors() -> None:
    """Nothing of it listens on another interface than the loopback."""
    command = locust_command("http://127.0.0.1:9", "127.0.0.1:10", ["--processes", "4"])
    assert command[-2:] == ["--processes", "4"]
    assert "--headless" not in command
    assert command[command.index("--grpc") + 1] == "127.0.0.1:10"
    for option in ("--web-host", "--master-bind-host"):
        assert command[command.index(option) + 1] == "127.0.0.1"
