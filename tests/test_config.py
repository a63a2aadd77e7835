"""Settings: where they come from, who wins, and what is refused in which words."""

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from sukkal import config
from sukkal.config import BadSetting, Settings, load
from sukkal.limits import Limits

ROOT = Path(__file__).parent.parent
HOME = {"HOME": "/home/ea"}


def settings_from(
    tmp_path: Path,
    toml: str = "",
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> Settings:
    file = tmp_path / "sukkal.toml"
    file.write_text(toml)
    return load(file, environ or {}, flags or {})


def environment(**variables: str) -> Settings:
    return load(None, HOME | variables, {})


def refusal(environ: Mapping[str, str], flags: Mapping[str, object] | None = None) -> BadSetting:
    with pytest.raises(BadSetting) as caught:
        load(None, {**HOME, **environ}, flags or {})
    return caught.value


# Defaults


def test_nothing_needs_to_be_set() -> None:
    settings = environment()
    assert (settings.host, settings.port, settings.store) == ("127.0.0.1", 8888, "sqlite:")
    assert (settings.durability, settings.log_format, settings.log_level) == ("full", "console", "info")
    assert settings.drain_timeout == 30
    assert (settings.min_length_client_id, settings.max_length_client_id) == (10, 36)
    assert settings.client_id_uuid_safe == "strict"
    assert settings.message_encryption_key is None
    assert settings.message_encryption_algorithms == "AES256"
    assert settings.allowed_origin == ()
    switches = (settings.admin_mode, settings.enable_checksum, settings.message_delete_with_claim_id)
    assert not any(switches)


def test_limits_are_settings_with_the_defaults_of_the_limits() -> None:
    assert set(Limits.__struct_fields__) <= set(Settings.__struct_fields__)
    assert environment().limits == Limits()


def test_limits_take_what_was_set() -> None:
    limits = environment(SUKKAL_MAX_QUEUE_METADATA="64", SUKKAL_MAX_MESSAGES_POST_SIZE="256").limits
    assert (limits.max_queue_metadata, limits.max_messages_post_size) == (64, 256)
    assert limits == msgspec.structs.replace(Limits(), max_queue_metadata=64, max_messages_post_size=256)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        environment().port = 1  # type: ignore[misc]


def test_data_is_kept_where_xdg_says() -> None:
    assert environment(XDG_DATA_HOME="/data").data_dir == Path("/data/sukkal")


@pytest.mark.parametrize("xdg", [{}, {"XDG_DATA_HOME": ""}, {"XDG_DATA_HOME": "relative"}])
def test_data_is_kept_in_the_home_directory_otherwise(xdg: dict[str, str]) -> None:
    assert environment(**xdg).data_dir == Path("/home/ea/.local/share/sukkal")


def test_without_a_home_the_data_directory_must_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(BadSetting, match="set data_dir"):
        load(None, {}, {})
    assert load(None, {"SUKKAL_DATA_DIR": "/data"}, {}).data_dir == Path("/data")


def test_tilde_is_the_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/enki")
    assert environment(SUKKAL_DATA_DIR="~/messages").data_dir == Path("/home/enki/messages")
    assert "a path" in str(refusal({"SUKKAL_DATA_DIR": "~nobody-by-this-name/x"}))


# Who wins


def test_environment_wins_over_file_and_flags_win_over_both(tmp_path: Path) -> None:
    toml = "port = 1\nhost = 'file'\nstore = 'file:'\ndurability = 'relaxed'\n"
    environ = {"SUKKAL_PORT": "2", "SUKKAL_HOST": "environment"}
    settings = settings_from(tmp_path, toml, environ, {"port": "3", "log_format": None})
    assert (settings.port, settings.host, settings.store) == (3, "environment", "file:")
    assert (settings.durability, settings.log_format) == ("relaxed", "console")


def test_flag_that_was_not_given_hides_nothing(tmp_path: Path) -> None:
    assert settings_from(tmp_path, "port = 1", {}, {"port": None}).port == 1


def test_variable_names_the_file(tmp_path: Path) -> None:
    named, given = tmp_path / "named.toml", tmp_path / "given.toml"
    named.write_text("port = 1")
    given.write_text("port = 2")
    environ = {"SUKKAL_CONFIG": str(named)}
    assert load(None, environ, {}).port == 1
    assert load(given, environ, {}).port == 2
    assert load(None, {"SUKKAL_CONFIG": ""}, {}).port == 8888


# Reading


@pytest.mark.parametrize("text", ["true", "True", "YES", "on", "1", " on "])
def test_ways_to_say_true(text: str) -> None:
    assert environment(SUKKAL_ADMIN_MODE=text).admin_mode is True


@pytest.mark.parametrize("text", ["false", "FALSE", "no", "off", "0"])
def test_ways_to_say_false(tmp_path: Path, text: str) -> None:
    settings = settings_from(tmp_path, "admin_mode = true", {"SUKKAL_ADMIN_MODE": text})
    assert settings.admin_mode is False


def test_lists_are_separated_by_commas() -> None:
    origins = "https://a.example, http://b.example:8080,"
    assert environment(SUKKAL_ALLOWED_ORIGIN=origins).allowed_origin == (
        "https://a.example",
        "http://b.example:8080",
    )


def test_empty_list_in_the_environment_takes_back_the_files(tmp_path: Path) -> None:
    toml = "allowed_origin = ['*']"
    assert settings_from(tmp_path, toml).allowed_origin == ("*",)
    assert settings_from(tmp_path, toml, {"SUKKAL_ALLOWED_ORIGIN": ""}).allowed_origin == ()


def test_file_may_hold_every_setting(tmp_path: Path) -> None:
    toml = """
        host = "::1"
        port = 0
        websocket_port = 9000
        admin_port = 9100
        admin_host = "::"
        metrics_queues = 3
        metrics_project_classes = ["gold=acme-*"]
        access_log_sample = 0.01
        slow_request = 0.5
        traces = true
        osprofiler_hmac_keys = ["s3cret"]
        osprofiler_connection_string = "redis://traces.example"
        workers = 4
        control_store = "redis://control.example/1"
        data_dir = "data"
        store = "memory:"
        durability = "relaxed"
        drain_timeout = 2.5
        allowed_origin = ["https://a.example"]
        compress_above = 10
        log_format = "json"
        log_level = "debug"
        default_message_ttl = 61
        max_message_ttl = 62
        default_message_delay = 1
        max_message_delay = 2
        default_claim_ttl = 63
        max_claim_ttl = 64
        default_claim_grace = 65
        max_claim_grace = 66
        default_subscription_ttl = 67
        max_subscriptions_per_page = 9
        max_queues_per_page = 3
        max_messages_per_page = 4
        max_messages_per_claim_or_pop = 5
        max_queue_metadata = 6
        max_messages_post_size = 7
        webhook_allow = ["10.0.0.0/8", "fd00::/8"]
        webhook_ports = ["443", "8000-8999"]
        webhook_connect_timeout = 1
        webhook_read_timeout = 2
        webhook_timeout = 3
        webhook_max_response = 4
        webhook_signing_keys = ["whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="]
        webhook_ca_file = "ca.pem"
        max_deliveries_per_host = 5
        max_deliveries_per_project = 6
        smtp_mode = "self_local"
        smtp_command = "msmtp -t"
        smtp_host = "mail.example"
        smtp_port = 587
        smtp_tls = "starttls"
        smtp_user_name = "me"
        smtp_user_password = "s3cret"
        identity_url = "https://keystone.example/v3"
        trustee_name = "messages"
        trustee_password = "s3cret"
        trustee_domain = "Services"
        client_id_uuid_safe = "off"
        min_length_client_id = 8
        max_length_client_id = 9
        message_delete_with_claim_id = true
        enable_checksum = true
        admin_mode = true
        pooling = true
        max_pools_per_page = 5
        max_flavors_per_page = 6
        message_encryption_key = "s3cret"
        subscriber_types = ["https"]
        signed_url_secret_key = "0123456789abcdefghijklmnopqrstuv"
        signed_url_max_ttl = 3600
        require_confirmation = true
        public_endpoint = "https://mq.example"
        public_websocket_endpoint = "wss://mq.example:9000"
        external_confirmation_url = "https://example.org/confirm"
        subscription_confirmation_email_topic = "Confirm"
        subscription_confirmation_email_body = "{0} {1} {2}"
        subscription_confirmation_email_sender = "mq@example.org"
        unsubscribe_confirmation_email_topic = "Gone"
        unsubscribe_confirmation_email_body = "{0} {1} {2}"
        unsubscribe_confirmation_email_sender = "mq@example.org"
        message_encryption_algorithms = "AES256"
    """
    settings = settings_from(tmp_path, toml)
    written = re.findall(r"^ *(\w+) = ", toml, re.MULTILINE)
    assert sorted(written) == sorted(Settings.__struct_fields__)
    unchanged = {name for name in written if getattr(settings, name) == getattr(environment(), name)}
    assert unchanged == {"message_encryption_algorithms"}
    assert settings.data_dir == Path("data")


def test_whole_seconds_do_for_a_timeout(tmp_path: Path) -> None:
    assert settings_from(tmp_path, "drain_timeout = 5").drain_timeout == 5
    assert environment(SUKKAL_DRAIN_TIMEOUT="0.5").drain_timeout == 0.5


def test_other_variables_are_none_of_our_business() -> None:
    environment(PORT="x", SUKKALX="x", sukkal_port="x", SUKKAL_LONG="1", SUKKAL_TEST_STORE="x")


# Refusals


BAD = [
    ("host", "", "a text that is not empty"),
    ("port", "-1", "a whole number from 0 to 65535"),
    ("port", "65536", "a whole number from 0 to 65535"),
    ("port", "http", "a whole number from 0 to 65535"),
    ("port", "", "a whole number from 0 to 65535"),
    ("port", "8888.0", "a whole number from 0 to 65535"),
    ("port", "9" * 5000, "a whole number from 0 to 65535"),
    ("websocket_port", "65536", "a whole number from 0 to 65535"),
    ("websocket_port", "", "a whole number from 0 to 65535"),
    ("websocket_port", "none", "a whole number from 0 to 65535"),
    ("default_subscription_ttl", "59", "a whole number from 60"),
    ("max_subscriptions_per_page", "0", "a whole number from 1"),
    ("data_dir", "", "a path"),
    ("store", "", "a store's URI"),
    ("store", "sqlite", "a store's URI"),
    ("store", "SQLite:", "a store's URI"),
    ("control_store", "redis", "a store's URI"),
    ("admin_port", "65536", "a whole number from 0 to 65535"),
    ("admin_host", "", "a text that is not empty"),
    ("metrics_queues", "1001", "a whole number from 0 to 1000"),
    ("metrics_project_classes", "acme-*", "a list of at most 100 items such as"),
    ("access_log_sample", "1.5", "a number from 0 to 1"),
    ("slow_request", "-1", "a number from 0"),
    ("traces", "otlp", "true or false"),
    ("osprofiler_connection_string", "redis", "an address such as"),
    ("workers", "0", "a whole number from 1"),
    ("workers", "auto", "a whole number from 1"),
    ("durability", "Full", "full or relaxed"),
    ("drain_timeout", "-1", "a number from 0"),
    ("drain_timeout", "nan", "a number from 0"),
    ("drain_timeout", "inf", "a number from 0"),
    ("drain_timeout", "30s", "a number from 0"),
    ("allowed_origin", "example.org", "a list of origins"),
    ("allowed_origin", "https://a.example,https://b.example/path", "a list of origins"),
    ("compress_above", "-1", "a whole number from 0"),
    ("log_format", "xml", "console or json"),
    ("log_level", "loud", "debug, info, warning or error"),
    ("default_message_ttl", "59", "a whole number from 60"),
    ("max_message_ttl", "59", "a whole number from 60"),
    ("default_message_delay", "-1", "a whole number from 0"),
    ("max_message_delay", "-1", "a whole number from 0"),
    ("default_claim_ttl", "59", "a whole number from 60"),
    ("max_claim_ttl", "59", "a whole number from 60"),
    ("default_claim_grace", "59", "a whole number from 60"),
    ("max_claim_grace", "59", "a whole number from 60"),
    ("max_queues_per_page", "0", "a whole number from 1"),
    ("max_messages_per_page", "0", "a whole number from 1"),
    ("max_messages_per_claim_or_pop", "0", "a whole number from 1"),
    ("max_queue_metadata", "0", "a whole number from 1"),
    ("max_queue_metadata", str(2**31), "a whole number from 1"),
    ("max_messages_post_size", "0", "a whole number from 1"),
    ("webhook_allow", "10.0.0.0/8,localhost", "a list of networks"),
    ("webhook_ports", "80,http", "a list of ports and ranges"),
    ("webhook_connect_timeout", "0", "a number from 0.1"),
    ("webhook_read_timeout", "0", "a number from 0.1"),
    ("webhook_timeout", "3601", "a number from 0.1 to 3600"),
    ("webhook_max_response", "-1", "a whole number from 0"),
    ("webhook_signing_keys", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", "a list of whsec_"),
    ("webhook_ca_file", "", "a path"),
    ("max_deliveries_per_host", "0", "a whole number from 1"),
    ("max_deliveries_per_project", "0", "a whole number from 1"),
    ("smtp_mode", "sendmail", "third_part or self_local"),
    ("smtp_command", "", "a text that is not empty"),
    ("smtp_host", "", "a text that is not empty"),
    ("smtp_port", "0", "a whole number from 1"),
    ("smtp_tls", "ssl", "tls, starttls or none"),
    ("smtp_user_name", "", "a text that is not empty"),
    ("smtp_user_password", "", "a text that is not empty"),
    ("identity_url", "keystone.example", "a URL such as https://"),
    ("trustee_name", "", "a text that is not empty"),
    ("trustee_password", "", "a text that is not empty"),
    ("trustee_domain", "", "a text that is not empty"),
    ("client_id_uuid_safe", "false", "strict or off"),
    ("min_length_client_id", "0", "a whole number from 1"),
    ("max_length_client_id", "0", "a whole number from 1"),
    ("message_delete_with_claim_id", "maybe", "true or false"),
    ("enable_checksum", "2", "true or false"),
    ("admin_mode", "", "true or false"),
    ("pooling", "", "true or false"),
    ("max_pools_per_page", "0", "a whole number from 1"),
    ("max_flavors_per_page", "0", "a whole number from 1"),
    ("message_encryption_key", "", "a text that is not empty"),
    ("message_encryption_algorithms", "RSA", "AES256"),
    ("subscriber_types", "http,HTTPS:", "a list of schemes"),
    ("signed_url_secret_key", "0123456789abcdefghijklmnopqrstu", "a text of at least 32 characters"),
    ("signed_url_max_ttl", "59", "a whole number from 60"),
    ("require_confirmation", "perhaps", "true or false"),
    ("public_endpoint", "mq.example", "a URL such as https://"),
    ("public_endpoint", "https://mq.example/?x", "a URL such as https://"),
    ("public_websocket_endpoint", "https://mq.example", "a URL such as wss://"),
    ("external_confirmation_url", "javascript:alert(1)", "a URL such as https://"),
    *(
        (f"{mail}_confirmation_email_{part}", "", "a text that is not empty")
        for mail in ("subscription", "unsubscribe")
        for part in ("topic", "body", "sender")
    ),
]


@pytest.mark.parametrize(("name", "text", "allowed"), BAD)
def test_bad_value_is_refused_with_its_name_origin_and_what_is_allowed(
    name: str, text: str, allowed: str
) -> None:
    variable = f"SUKKAL_{name.upper()}"
    bad = refusal({variable: text})
    assert bad.key == name
    assert str(bad).startswith(f"{name} = ")
    assert f"from the environment variable {variable} is not allowed" in str(bad)
    assert f"it must be {allowed}" in str(bad)
    assert str(bad).endswith(".")


def test_every_setting_that_can_be_wrong_is_shown_to_be_refused() -> None:
    right = {"osprofiler_hmac_keys"}  # in the environment any text is a list of texts
    assert {name for name, _, _ in BAD} == set(Settings.__struct_fields__) - right


def test_keys_of_osprofiler_mean_nothing_without_a_place_for_traces(tmp_path: Path) -> None:
    assert "set both, or neither" in str(refusal({"SUKKAL_OSPROFILER_HMAC_KEYS": "a"}))
    with pytest.raises(BadSetting) as refused:
        settings_from(tmp_path, "osprofiler_hmac_keys = ['s3cret', '']")
    assert "s3cret" not in str(refused.value)


def test_value_is_named_but_not_at_any_length() -> None:
    assert "port = 'http' from" in str(refusal({"SUKKAL_PORT": "http"}))
    assert len(str(refusal({"SUKKAL_PORT": "9" * 5000}))) < 300


@pytest.mark.parametrize(
    "toml",
    [
        "port = '8888'",
        "port = true",
        "port = 1.5",
        "port = [1]",
        "drain_timeout = true",
        "drain_timeout = nan",
        "host = 1",
        "data_dir = 1",
        "data_dir = '\\u0000'".replace("'", '"'),
        "admin_mode = 1",
        "admin_mode = 'true'",
        "durability = 1979-05-27",
        "allowed_origin = 'https://a.example'",
        "allowed_origin = [1]",
        "[port]",
    ],
)
def test_wrong_type_in_the_file_is_refused_with_the_files_name(tmp_path: Path, toml: str) -> None:
    with pytest.raises(
        BadSetting, match=r"from the file .*sukkal\.toml is not allowed: it must be "
    ) as caught:
        settings_from(tmp_path, toml)
    assert caught.value.key == toml.strip("[").split(" ")[0].strip("]")


def test_bad_flag_is_named_as_it_is_typed() -> None:
    bad = refusal({}, {"log_format": "xml"})
    assert str(bad) == (
        "log_format = 'xml' from the flag --log-format is not allowed: it must be console or json."
    )


def test_bad_value_is_refused_even_when_another_wins() -> None:
    assert "SUKKAL_PORT" in str(refusal({"SUKKAL_PORT": "x"}, {"port": "1"}))


def test_secrets_of_deliveries_are_never_shown(tmp_path: Path) -> None:
    key = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
    for name, given in (("webhook_signing_keys", f"[{key!r}, 5]"), ("smtp_user_password", "['hush']")):
        with pytest.raises(BadSetting) as caught:
            settings_from(tmp_path, f"{name} = {given}")
        assert key not in str(caught.value)
        assert "hush" not in str(caught.value)
    settings = environment(
        SUKKAL_WEBHOOK_SIGNING_KEYS=key, SUKKAL_SMTP_USER_PASSWORD="hush", SUKKAL_TRUSTEE_PASSWORD="hush"
    )
    assert settings.webhook_signing_keys == (key,)
    assert key not in repr(settings)
    assert "hush" not in repr(settings)


def test_key_of_encryption_is_never_shown(tmp_path: Path) -> None:
    with pytest.raises(BadSetting) as caught:
        settings_from(tmp_path, "message_encryption_key = ['s3cret']")
    assert "s3cret" not in str(caught.value)
    settings = environment(SUKKAL_MESSAGE_ENCRYPTION_KEY="s3cret")
    assert settings.message_encryption_key == "s3cret"
    assert "s3cret" not in repr(settings)
    assert "port=8888" in repr(settings)


@pytest.mark.parametrize(
    ("low", "high"),
    [
        ("default_message_ttl", "max_message_ttl"),
        ("default_message_delay", "max_message_delay"),
        ("default_claim_ttl", "max_claim_ttl"),
        ("default_claim_grace", "max_claim_grace"),
        ("min_length_client_id", "max_length_client_id"),
    ],
)
def test_one_may_not_exceed_the_other(tmp_path: Path, low: str, high: str) -> None:
    settings_from(tmp_path, f"{low} = 100\n{high} = 100")
    with pytest.raises(BadSetting) as caught:
        settings_from(tmp_path, f"{low} = 101", {f"SUKKAL_{high.upper()}": "100"})
    assert caught.value.key == low
    assert str(caught.value) == (
        f"{low} = 101 (from the file {tmp_path / 'sukkal.toml'}) must not exceed "
        f"{high} = 100 (from the environment variable SUKKAL_{high.upper()})."
    )


def test_maximum_below_a_default_names_both() -> None:
    bad = refusal({"SUKKAL_MAX_MESSAGE_TTL": "600"})
    assert bad.key == "max_message_ttl"
    assert str(bad).startswith(
        "default_message_ttl = 3600 (by default) must not exceed max_message_ttl = 600 ("
    )


def test_unknown_key_in_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"^'prot' in the file .* is not a setting\. Did you mean port\?$"):
        settings_from(tmp_path, "prot = 1")
    with pytest.raises(BadSetting, match=r"^'xyzzy' in the file .* is not a setting\.$") as caught:
        settings_from(tmp_path, "[xyzzy]\nport = 1")
    assert caught.value.key == "xyzzy"


def test_unknown_variable_is_refused() -> None:
    assert str(refusal({"SUKKAL_ADMIN_MOD": "1"})) == (
        "The environment variable SUKKAL_ADMIN_MOD is not a setting. Did you mean SUKKAL_ADMIN_MODE?"
    )
    assert str(refusal({"SUKKAL_": "1"})) == "The environment variable SUKKAL_ is not a setting."


def test_unknown_flag_is_refused() -> None:
    assert str(refusal({}, {"hosts": "x"})) == "The flag --hosts is not a setting. Did you mean --host?"


def test_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"missing\.toml cannot be read: No such file") as caught:
        load(tmp_path / "missing.toml", {}, {})
    assert caught.value.key == "config"
    with pytest.raises(BadSetting, match="cannot be read: Is a directory"):
        load(tmp_path, {}, {})
    with pytest.raises(BadSetting, match="cannot be read"):
        load(None, {"SUKKAL_CONFIG": str(tmp_path / "missing.toml")}, {})


@pytest.mark.parametrize(
    "content", [b"port = ", b"port = 1\nport = 2", b"\xff\xfe", b"a = " + b"[" * 100_000]
)
def test_file_that_is_not_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "sukkal.toml"
    file.write_bytes(content)
    with pytest.raises(BadSetting, match=r"sukkal\.toml is not valid TOML: .*\.$"):
        load(file, {}, {})


# Documents


def test_every_setting_says_what_it_does_and_may_be() -> None:
    settings = config.describe()
    assert [setting.name for setting in settings] == list(Settings.__struct_fields__)
    for setting in settings:
        assert setting.variable == f"SUKKAL_{setting.name.upper()}"
        assert setting.description.endswith(".")
        assert setting.allowed
        assert setting.default
    assert [setting.name for setting in settings if setting.flag] == sorted(
        config.FLAGS, key=Settings.__struct_fields__.index
    )


def test_defaults_are_shown_as_they_are() -> None:
    shown = {setting.name: setting.default for setting in config.describe()}
    for name, text in shown.items():
        if match := re.fullmatch("`([^`]*)`", text):
            value = load(None, HOME | {f"SUKKAL_{name.upper()}": match[1]}, {})
            assert getattr(value, name) == getattr(environment(), name)
    assert shown["allowed_origin"] == shown["message_encryption_key"] == "none"


@pytest.mark.parametrize("name", Settings.__struct_fields__)
def test_every_setting_is_documented(name: str) -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    assert re.search(rf"^\| `{name}` \| `SUKKAL_{name.upper()}`.* \|$", page, re.MULTILINE)


def test_page_of_settings_is_up_to_date() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    assert config.markdown() in page, "run `make docs`"


def test_example_in_the_page_is_right(tmp_path: Path) -> None:
    example = re.search(r"```toml\n(.*?)```", config.markdown(), re.DOTALL)
    assert example
    assert settings_from(tmp_path, example[1]).max_message_ttl == 86400


# Credentials


@pytest.mark.parametrize(
    "uri, shown",
    [
        ("sqlite:///data/a@b.db", "sqlite:///data/a@b.db"),
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://u:hush@h:6379/0?prefix=a@b", "redis://h:6379/0?prefix=a@b"),
        ("redis://:hu/sh@h", "redis://h"),
        ("redis://:hu?hush@h", "redis://h"),
        ("redis+sentinel://:s@a,b/main?sentinel_password=hush&timeout=1", "redis+sentinel://a,b/main?"),
    ],
)
def test_store_is_shown_without_its_credentials(uri: str, shown: str) -> None:
    assert config.without_credentials(uri).startswith(shown)
    settings = environment(SUKKAL_STORE=uri)
    assert settings.store == uri
    assert "hush" not in repr(settings)
    assert "hu/sh" not in repr(settings)
