"""What the options of a Locust run come to, and what is refused."""

import argparse
from typing import Any

import numpy as np
import pytest

from loadtest.arrivals import traffic
from loadtest.locust_users import schedule
from loadtest.locust_users.options import add_options
from loadtest.locust_users.settings import BadOption, check_host, read


def parsed(*arguments: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return vars(parser.parse_args(arguments))


def test_without_options_it_is_a_closed_loop_of_the_default_tenant() -> None:
    """On the doors where `evenflow up` listens."""
    settings = read(parsed())
    assert not settings.is_open
    assert settings.tenants == 1 and settings.key_of(0) == ""
    assert (settings.grpc, settings.function) == ("127.0.0.1:9001", "load")


def test_every_default_has_its_options_type() -> None:
    """Locust's form turns what is typed into the type that the option has."""
    defaults = parsed()
    values = {name: type(value) for name, value in defaults.items()}
    assert values["open_rate"] is values["sleep_ms"] is values["dwell_rate"] is float
    assert values["in_flight"] is values["batch_events"] is values["pad_bytes"] is int
    assert not any(value is None for value in defaults.values())


def test_each_key_is_a_tenant() -> None:
    """With commas or spaces between; a noisy tenant is the last one."""
    settings = read(parsed("--keys", "A:1,B:2 C:3", "--noisy-part", "0.5"))
    assert [settings.key_of(tenant) for tenant in range(settings.tenants)] == ["A:1", "B:2", "C:3"]
    assert settings.weights().tolist() == [0.25, 0.25, 0.5]
    told = settings.traffic(10.0)
    assert traffic.tenants_of(told) == 3
    assert set(traffic.schedule(told).tenants) == {0, 1, 2}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--keys", "A:1,nonsense"), "--keys: the key number 2 is not ID:SECRET"),
        (("--grpc", "localhost"), "--grpc: HOST:PORT"),
        (("--function", ""), "--function"),
        (("--open-rate", "-1"), "--open-rate"),
        (("--batch-events", "1001"), "--batch-events: 1 to 1000"),
        (("--in-flight", "0"), "--in-flight"),
        (("--fail-rate", "1.5"), "^--fail-rate must be within 0 to 1"),
        (("--pad-bytes", "10", "--pad-bytes-max", "5"), "--pad-bytes-max: at least --pad-bytes, 10, not 5"),
        (("--levels", ""), "steps need levels"),
        (("--levels", "1 x"), "could not convert"),
        (("--noisy-part", "0.5"), "--noisy-part: needs the keys of at least two"),
        (("--replay", "x.csv", "--arrivals", "herd"), "leave the arrivals herd out"),
        (("--replay", "x.csv", "--skew", "zipf"), "leave the skew zipf out"),
        (("--noisy-part", "1", "--keys", "A:1,B:2"), "noisy tenant's part"),
    ],
)
def test_what_is_out_of_bounds_is_refused_in_a_sentence(arguments: tuple[str, ...], says: str) -> None:
    with pytest.raises(BadOption, match=says):
        read(parsed(*arguments))


def test_arrivals_that_do_not_fit_into_the_run_are_refused() -> None:
    with pytest.raises(BadOption, match="herd with a period of 10 s does not fit into the 5 s"):
        read(parsed("--open-rate", "5", "--arrivals", "herd")).check_seconds(5.0)
    read(parsed("--arrivals", "herd")).check_seconds(5.0)


def test_the_host_is_an_http_address() -> None:
    check_host(None)
    check_host("http://127.0.0.1:9000")
    with pytest.raises(BadOption, match="--host"):
        check_host("127.0.0.1:9000")


def test_the_drivers_parts_are_one_schedule_of_all_kinds() -> None:
    """Every event is in one part, and no part misses a kind."""
    settings = read(parsed("--open-rate", "200", "--arrivals", "bursts"))
    whole = traffic.schedule(settings.traffic(5.0))
    kinds = schedule.kinds({"HttpEvent": 1.0, "GrpcInvoke": 1.0}, len(whole), settings.seed)
    parts = [whole.part(index, 2) for index in range(2)]
    assert sorted(np.concatenate([part.numbers for part in parts])) == list(range(len(whole)))
    for part in parts:
        assert set(kinds[part.numbers]) == {0, 1}


def test_kinds_are_drawn_by_weight() -> None:
    kinds = schedule.kinds({"HttpEvent": 3.0, "GrpcInvoke": 1.0}, 10_000, "1")
    assert abs(np.mean(kinds == 0) - 0.75) < 0.03
    assert (kinds == schedule.kinds({"HttpEvent": 3.0, "GrpcInvoke": 1.0}, 10_000, "1")).all()
