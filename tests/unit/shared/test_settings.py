"""Settings: typed, bounded, and each refusal names the setting."""

import importlib
from dataclasses import dataclass
from typing import Any

import pytest

from services.shared.settings import NodeSettings, SettingsError, keys_of, load, setting, variable_of

NODE = {
    "EVENFLOW_NODE_ID": "queue-0",
    "EVENFLOW_DATA_DIR": "/d",
    "EVENFLOW_RUN_DIR": "/r",
    "EVENFLOW_TOKEN_FILE": "/t",
}
SERVICES = ("control", "frontend", "poller", "queue", "runtime")


@dataclass(frozen=True, slots=True)
class Example:
    """One of each kind."""

    count: int = setting("a.count", 3, minimum=1, maximum=9, help="x")
    part: float = setting("a.part", 0.5, minimum=0, maximum=1, help="x")
    is_on: bool = setting("a.is-on", False, help="x")
    level: str = setting("a.level", "low", choices=("low", "high"), help="x")


def test_what_is_not_set_has_its_default() -> None:
    assert load(Example, {}) == Example(3, 0.5, False, "low")


def test_values_come_from_the_environment_with_their_types() -> None:
    """The bounds themselves are allowed."""
    environ = {"EVENFLOW_A_COUNT": "9", "EVENFLOW_A_PART": "0", "EVENFLOW_A_IS_ON": "YES", "EVENFLOW_A_LEVEL": "high"}
    assert load(Example, environ) == Example(9, 0.0, True, "high")


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("a.count", "", "a whole number"),
        ("a.count", "1.5", "a whole number"),
        ("a.count", "0", "within 1 to 9"),
        ("a.count", "10", "within 1 to 9"),
        ("a.part", "half", "a number"),
        ("a.part", "1.01", "within 0 to 1"),
        ("a.part", "nan", "within 0 to 1"),
        ("a.part", "inf", "within 0 to 1"),
        ("a.is-on", "maybe", "true or false"),
        ("a.level", "middle", "one of low, high"),
    ],
)
def test_a_bad_value_is_refused_with_the_settings_names(key: str, value: str, text: str) -> None:
    """Key and variable, what is expected, what came."""
    with pytest.raises(SettingsError, match=text) as refused:
        load(Example, {variable_of(key): value})
    assert key in str(refused.value) and variable_of(key) in str(refused.value)


@pytest.mark.parametrize("missing", [name for name in NODE if name != "EVENFLOW_NODE_ID"])
def test_what_has_no_default_must_be_set(missing: str) -> None:
    with pytest.raises(SettingsError, match=missing):
        load(NodeSettings, {k: v for k, v in NODE.items() if k != missing})


@pytest.mark.parametrize("service", SERVICES)
def test_every_setting_of_a_service_names_itself_when_it_is_bad(service: str) -> None:
    """Each bounded number is refused just outside its bounds, each choice outside its list; no two share a variable."""
    module = importlib.import_module(f"services.{service}.settings")
    classes: list[Any] = [
        c
        for c in vars(module).values()
        if isinstance(c, type) and issubclass(c, NodeSettings) and c.__module__ == module.__name__
    ]
    assert len(classes) == 1
    found = keys_of(classes[0])
    assert len({variable_of(key) for key in found}) == len(found)
    load(classes[0], NODE)
    checked = 0
    for key, field in found.items():
        assert field.metadata["help"], key
        low, high, choices = (field.metadata[name] for name in ("minimum", "maximum", "choices"))
        kind = field.type if isinstance(field.type, str) else field.type.__name__
        bad = [low - 1] if low is not None else []
        bad += [high + 1] if high is not None else []
        bad += ["no such choice"] if choices else []
        bad += ["no number"] if kind in ("int", "float") else []
        for value in bad:
            with pytest.raises(SettingsError) as refused:
                load(classes[0], {**NODE, variable_of(key): str(value)})
            assert key in str(refused.value)
            checked += 1
        if kind in ("int", "float"):
            assert low is not None and high is not None, f"{key} has no bounds"
    assert checked > 10


def test_addresses_follow_from_the_run_folder_unless_they_are_set() -> None:
    """On one machine unix sockets; between machines what is told."""
    node = load(NodeSettings, NODE)
    assert node.listen_address == node.advertised_address == "unix:/r/queue-0.sock"
    assert node.control_target == "unix:/r/control.sock"
    more = {"EVENFLOW_LISTEN": "0.0.0.0:1", "EVENFLOW_ADVERTISE": "h:1", "EVENFLOW_CONTROL_ADDRESS": "c:2"}
    node = load(NodeSettings, {**NODE, **more})
    assert (node.listen_address, node.advertised_address, node.control_target) == ("0.0.0.0:1", "h:1", "c:2")


def test_a_container_is_named_by_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replicas of a service have one environment and names of their own: node id and address follow the host's."""
    monkeypatch.setattr("socket.gethostname", lambda: "3f2a9c")
    environ = {**NODE, "EVENFLOW_NODE_ID": "", "EVENFLOW_LISTEN": "0.0.0.0:7000"}
    node = load(NodeSettings, environ)
    assert (node.node_id, node.advertised_address) == ("3f2a9c", "3f2a9c:7000")
    node = load(NodeSettings, {**environ, "EVENFLOW_NODE_ID": "queue-0", "EVENFLOW_LISTEN": "10.0.0.1:7000"})
    assert (node.node_id, node.advertised_address) == ("queue-0", "10.0.0.1:7000")
