"""The settings: defaults, sources, bounds, and every fault at once without a secret in it."""

import base64
import contextlib
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import EVENT_TYPES, Settings, load, load_tokens
from gateway.errors import ConfigurationFault

SECRET = "whsec_" + base64.b64encode(b"s" * 24).decode()

ENOUGH = {
    "ASSEMBLYAI_API_KEY": "raw-key",
    "GATEWAY_WEBHOOK_URL": "https://crm.example.com/events",
    "GATEWAY_WEBHOOK_SECRETS": SECRET,
}


def faults(**changes: str | None) -> tuple[str, ...]:
    """The faults of a sufficient environment with these variables set (None: taken out)."""
    environ = {**ENOUGH, **{name: value for name, value in changes.items() if value is not None}}
    for name in (name for name, value in changes.items() if value is None):
        environ.pop(name, None)
    with pytest.raises(ConfigurationFault) as caught:
        load(environ)
    return caught.value.faults


def loaded(tmp_path: Path, toml: str, **environ: str) -> Settings:
    """The settings of a file, with a sufficient environment."""
    file = tmp_path / "gateway.toml"
    file.write_text(toml)
    return load({**ENOUGH, "GATEWAY_CONFIG": str(file), **environ})


def file_faults(tmp_path: Path, toml: str, **environ: str) -> tuple[str, ...]:
    """The faults of a file, with a sufficient environment."""
    with pytest.raises(ConfigurationFault) as caught:
        loaded(tmp_path, toml, **environ)
    return caught.value.faults


def test_defaults_are_the_contract_s() -> None:
    """What is not written has the documented default."""
    settings = load(ENOUGH)
    assert (settings.host, settings.port, settings.admin_host, settings.admin_port) == (
        "0.0.0.0",
        8080,
        "127.0.0.1",
        8081,
    )
    assert (settings.assemblyai_url, settings.public_url) == ("wss://streaming.assemblyai.com", None)
    assert settings.webhook_events == frozenset(EVENT_TYPES) - {"turn.partial"}
    assert settings.store_path == "gateway.db"
    assert (settings.media_timeout_seconds, settings.reconnect_seconds, settings.max_call_seconds) == (30, 5, 14400)
    assert (settings.terminate_seconds, settings.sessions_per_minute, settings.replay_seconds) == (12, 100, 60)
    assert (settings.keep_days, settings.budget_usd_per_day, settings.drain_seconds) == (7, None, 120)
    off = (settings.session_tokens, settings.allow_unsigned, settings.api_tokens, settings.twilio_auth_tokens)
    assert off == (False, False, (), ())
    assert list(settings.profiles) == ["default"]


def test_nothing_set_names_every_required_variable_at_once() -> None:
    """An empty environment lists all that is required, each with its variable."""
    with pytest.raises(ConfigurationFault) as caught:
        load({})
    said = caught.value.faults
    assert [name for name in ENOUGH if not any(fault.startswith(name) for fault in said)] == []
    assert len(said) == len(ENOUGH)


def test_faults_come_all_at_once() -> None:
    """One start shows every fault, not the first."""
    said = faults(
        GATEWAY_PORT="x",
        GATEWAY_STORE="nats://broker",
        GATEWAY_WEBHOOK_EVENTS="turn.finl",
        GATEWAY_ALLOW_UNSIGNED="maybe",
    )
    assert [fault.split(" ")[0].rstrip(":") for fault in sorted(said)] == [
        "GATEWAY_ALLOW_UNSIGNED",
        "GATEWAY_PORT",
        "GATEWAY_STORE",
        "GATEWAY_WEBHOOK_EVENTS",
    ]
    assert any("did you mean turn.final?" in fault for fault in said)
    assert any("nats:// is not supported yet" in fault for fault in said)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("GATEWAY_PORT", ["-1", "65536", "1.5", "8080x"]),
        ("GATEWAY_MEDIA_TIMEOUT_SECONDS", ["nan", "inf", "-1", "0", "1e9", "ten"]),
        ("GATEWAY_RECONNECT_SECONDS", ["-0.1", "nan"]),
        ("GATEWAY_MAX_CALL_SECONDS", ["0", "-5", "1e12"]),
        ("GATEWAY_TERMINATE_SECONDS", ["0", "nan"]),
        ("GATEWAY_SESSIONS_PER_MINUTE", ["0", "-1", "1.5", "nan"]),
        ("GATEWAY_REPLAY_SECONDS", ["-1", "1e6"]),
        ("GATEWAY_KEEP_DAYS", ["-1", "inf"]),
        ("GATEWAY_BUDGET_USD_PER_DAY", ["-1", "nan", "much"]),
        ("GATEWAY_DRAIN_SECONDS", ["-1", "nan"]),
        ("GATEWAY_SESSION_TOKENS", ["2", "ja"]),
    ],
)
def test_numbers_have_bounds(name: str, values: list[str]) -> None:
    """Negative, absurd and non-numbers are one fault each that names the variable."""
    for value in values:
        (fault,) = faults(**{name: value})
        assert fault.startswith(name), value


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///gateway.db", "gateway.db"),
        ("sqlite:////var/lib/g.db", "/var/lib/g.db"),
        ("sqlite:///a/b.db", "a/b.db"),
    ],
)
def test_three_slashes_are_relative_and_four_absolute(url: str, path: str) -> None:
    """A store's URL is read as SQLite's file name."""
    assert load({**ENOUGH, "GATEWAY_STORE": url}).store_path == path


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///",
        "sqlite://g.db",
        "g.db",
        "sqlite:///:memory:",
        "postgres://x",
        "sqlite:///d/",
        "sqlite:///a?mode=ro",
    ],
)
def test_other_stores_are_faults(url: str) -> None:
    """What names no file of SQLite is refused."""
    (fault,) = faults(GATEWAY_STORE=url)
    assert "sqlite:///" in fault


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("GATEWAY_PUBLIC_URL", ["https://gw.example.com", "https://gw.example.com:8443/base/"]),
        (
            "GATEWAY_ASSEMBLYAI_URL",
            [
                "wss://streaming.eu.assemblyai.com",
                "ws://127.0.0.1:9000",
                "ws://localhost:1",
                "ws://[::1]:2",
                "wss://proxy:1/",
            ],
        ),
        ("GATEWAY_WEBHOOK_URL", ["https://crm.example.com:8443/a?b=c", "https://8.8.8.8/x"]),
    ],
)
def test_addresses_that_are_taken(name: str, good: list[str]) -> None:
    """The addresses an operator may need pass."""
    for url in good:
        load({**ENOUGH, name: url})


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        (
            "GATEWAY_PUBLIC_URL",
            [
                "http://gw.example.com",
                "gw.example.com",
                "https://GW.example.com",
                "https://u:p@gw.example.com",
                "https://gw.example.com?x=1",
                "https://gw.example.com:0",
                "https://gw.example.com:99999",
                "https://",
                "HTTPS://gw.example.com",
                "https://[::1",
            ],
        ),
        (
            "GATEWAY_ASSEMBLYAI_URL",
            [
                "https://streaming.assemblyai.com",
                "ws://10.0.0.1:80",
                "ws://streaming.assemblyai.com",
                "wss://h/v3/ws",
                "x",
            ],
        ),
        (
            "GATEWAY_WEBHOOK_URL",
            [
                "http://crm.example.com",
                "ftp://crm.example.com",
                "https://u:p@crm.example.com",
                "https://10.0.0.1/",
                "https://169.254.169.254/",
                "https://crm.example.com/#part",
                "https://crm example.com/",
            ],
        ),
        ("GATEWAY_WEBHOOK_ALLOW_CIDRS", ["10.0.0.1/8", "169.254.0.0/24", "fe80::/64", "ten"]),
    ],
)
def test_addresses_that_are_refused(name: str, bad: list[str]) -> None:
    """Each unusable address is one fault that names its variable."""
    for url in bad:
        (fault,) = faults(**{name: url})
        assert fault.startswith(name), url
        assert "u:p" not in fault


def test_a_bare_address_is_its_own_range() -> None:
    """A range may be written as one address."""
    assert load({**ENOUGH, "GATEWAY_WEBHOOK_ALLOW_CIDRS": "10.0.0.1"}).webhook_allow_cidrs == (
        ip_network("10.0.0.1/32"),
    )


def test_http_webhooks_only_into_allowed_ranges() -> None:
    """Plain http passes where ranges are allowed, and a literal address only inside them."""
    ranges = {"GATEWAY_WEBHOOK_ALLOW_CIDRS": "127.0.0.0/8, ::1/128"}
    assert (
        load({**ENOUGH, **ranges, "GATEWAY_WEBHOOK_URL": "http://127.0.0.1:9/x"}).webhook_url == "http://127.0.0.1:9/x"
    )
    load({**ENOUGH, **ranges, "GATEWAY_WEBHOOK_URL": "http://crm.internal/x"})
    (fault,) = faults(**ranges, GATEWAY_WEBHOOK_URL="http://10.0.0.1/x")
    assert "GATEWAY_WEBHOOK_ALLOW_CIDRS" in fault


@pytest.mark.parametrize(
    "secret", ["whsec_", "whsec_abc!", "whsec_" + base64.b64encode(b"x" * 23).decode(), "plain" * 8]
)
def test_webhook_secrets_are_checked_and_never_shown(secret: str) -> None:
    """A secret that would sign badly is a fault which gives its place, not its value."""
    (fault,) = faults(GATEWAY_WEBHOOK_SECRETS=f"{SECRET},{secret}")
    assert "entry 2" in fault
    shown = secret.removeprefix("whsec_")
    assert not shown or shown not in fault


def test_empty_is_unset() -> None:
    """Empty variables, and lists of empty entries, count as not written."""
    settings = load({**ENOUGH, "GATEWAY_PORT": "", "GATEWAY_TWILIO_AUTH_TOKENS": " , ,", "GATEWAY_PUBLIC_URL": " "})
    assert (settings.port, settings.twilio_auth_tokens, settings.public_url) == (8080, (), None)
    assert len(faults(ASSEMBLYAI_API_KEY=" ", GATEWAY_WEBHOOK_URL="", GATEWAY_WEBHOOK_SECRETS=",")) == 3


def test_twilio_needs_the_public_url() -> None:
    """Signatures are over the public address, so tokens without it are a fault."""
    (fault,) = faults(GATEWAY_TWILIO_AUTH_TOKENS="a" * 32)
    assert fault.startswith("GATEWAY_PUBLIC_URL is required")


def test_keys_are_raw() -> None:
    """A key with a scheme, and tokens that no header can carry, are faults; the Telnyx key is 32 bytes."""
    assert faults(ASSEMBLYAI_API_KEY="Bearer abc")[0].startswith("ASSEMBLYAI_API_KEY")
    assert faults(GATEWAY_API_TOKENS="häßlich")[0].startswith("GATEWAY_API_TOKENS")
    assert faults(GATEWAY_TELNYX_PUBLIC_KEY="abc")[0].startswith("GATEWAY_TELNYX_PUBLIC_KEY")
    assert faults(GATEWAY_TELNYX_PUBLIC_KEY="é")[0].startswith("GATEWAY_TELNYX_PUBLIC_KEY")
    key = base64.b64encode(b"k" * 32).decode()
    assert load({**ENOUGH, "GATEWAY_TELNYX_PUBLIC_KEY": key}).telnyx_public_key == b"k" * 32


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    """A setting in both is the environment's; numbers, flags and lists may be written as TOML has them."""
    toml = """
        port = 1234
        admin_port = "4321"
        assemblyai_api_key = "from-file"
        assemblyai_url = "wss://streaming.eu.assemblyai.com"
        telnyx_stream_tokens = ["one", "two"]
        signalwire_stream_tokens = "three,four"
        session_tokens = true
        budget_usd_per_day = 12.5
        webhook_events = ["call.ended"]
    """
    settings = loaded(tmp_path, toml, GATEWAY_PORT="99", ASSEMBLYAI_API_KEY="")
    assert (settings.port, settings.admin_port, settings.api_key) == (99, 4321, "from-file")
    assert settings.assemblyai_url == "wss://streaming.eu.assemblyai.com"
    assert (settings.telnyx_stream_tokens, settings.signalwire_stream_tokens) == (("one", "two"), ("three", "four"))
    assert (settings.session_tokens, settings.budget_usd_per_day) == (True, 12.5)
    assert settings.webhook_events == {"call.ended"}


def test_unknown_keys_are_faults_with_the_nearest_name(tmp_path: Path) -> None:
    """A misspelt key never passes silently, and the name that was meant is suggested."""
    said = file_faults(tmp_path, 'webhok_url = "x"\ngateway_port = 1\nconfig = "y"\n[rates]\nspeaker_label = 1\n')
    assert len(said) == 4
    assert any("webhok_url" in fault and "did you mean webhook_url?" in fault for fault in said)
    assert any(
        "rates.speaker_label " in fault and "did you mean rates.speaker_labels?".replace("rates.", "") in fault
        for fault in said
    )


@pytest.mark.parametrize(
    "toml",
    [
        "port = true",
        "port = []",
        "host = 5",
        'twilio_auth_tokens = ["a", 5]',
        "rates = 5",
        '[rates]\n"universal-3-5-pro" = -1',
        '[rates]\n"universal-3-5-pro" = nan',
        '[rates]\nspeaker_labels = "0.1"',
        'host = "a\\nb"',
        'api_tokens = "a\\u0000b"',
    ],
)
def test_values_of_a_wrong_kind_are_faults(tmp_path: Path, toml: str) -> None:
    """TOML's types are held to."""
    assert len(file_faults(tmp_path, toml)) == 1


def test_rates_are_read(tmp_path: Path) -> None:
    """Only what was written is in the rates; the rate card's own prices are laid under it elsewhere."""
    settings = loaded(tmp_path, '[rates]\n"universal-3-5-pro" = 0.4\nvoice_focus = 0\n')
    assert dict(settings.rates) == {"universal-3-5-pro": 0.4, "voice_focus": 0}


@pytest.mark.parametrize("content", [b"a = ", b"\xff\xfe", b"[x]\n[x]\nsecret-in-the-file"])
def test_a_file_that_cannot_be_read_is_one_fault(tmp_path: Path, content: bytes) -> None:
    """A missing, broken or binary file is said by the variable that names it, and nothing of it is quoted."""
    file = tmp_path / "gateway.toml"
    file.write_bytes(content)
    (fault,) = faults(GATEWAY_CONFIG=str(file))
    assert fault.startswith("GATEWAY_CONFIG")
    assert "secret" not in fault
    (fault,) = faults(GATEWAY_CONFIG=str(tmp_path / "missing.toml"))
    assert "No such file" in fault


def test_stray_variables_are_warnings() -> None:
    """A variable that looks like ours is said, with a suggestion; those that Kubernetes sets are not."""
    settings = load(
        {**ENOUGH, "GATEWAY_WEBHOK_URL": "x", "GATEWAY_SERVICE_HOST": "10.0.0.1", "GATEWAY_PORT_80_TCP": "x"}
    )
    assert [w for w in settings.warnings if "did you mean GATEWAY_WEBHOOK_URL?" in w] != []
    assert not any("SERVICE" in warning or "PORT_80" in warning for warning in settings.warnings)
    (fault,) = faults(GATEWAY_PORT="tcp://10.0.0.1:80")
    assert "enableServiceLinks" in fault


def test_warnings_say_what_is_risky() -> None:
    """Unsigned carriers, random token secrets and a gateway that admits nobody are warned of."""
    assert any("no carrier is let in" in warning for warning in load(ENOUGH).warnings)
    assert any(
        "GATEWAY_ALLOW_UNSIGNED=1" in warning for warning in load({**ENOUGH, "GATEWAY_ALLOW_UNSIGNED": "1"}).warnings
    )
    twilio = {**ENOUGH, "GATEWAY_TWILIO_AUTH_TOKENS": "t" * 32, "GATEWAY_PUBLIC_URL": "https://gw.example.com"}
    assert any("GATEWAY_TOKEN_SECRET is not set" in warning for warning in load(twilio).warnings)
    assert load({**twilio, "GATEWAY_TOKEN_SECRET": "x" * 32}).warnings == ()
    assert any("shorter than 16" in warning for warning in load({**twilio, "GATEWAY_TOKEN_SECRET": "short"}).warnings)


def test_token_secrets_are_random_each_time_unless_set() -> None:
    """Without a secret one is made up at each start; several may be set for rotation."""
    assert load(ENOUGH).token_secrets != load(ENOUGH).token_secrets
    settings = load({**ENOUGH, "GATEWAY_TOKEN_SECRET": "new-new-new-new-new, old-old-old-old-old"})
    assert settings.token_secrets == (b"new-new-new-new-new", b"old-old-old-old-old")
    assert load_tokens({"GATEWAY_TOKEN_SECRET": "alone", "GATEWAY_MAX_CALL_SECONDS": "60"}).max_call_seconds == 60
    with pytest.raises(ConfigurationFault):
        load_tokens({"GATEWAY_MAX_CALL_SECONDS": "never"})


PLANTED = {
    "ASSEMBLYAI_API_KEY": "planted-1",
    "GATEWAY_TWILIO_AUTH_TOKENS": "planted-2",
    "GATEWAY_TELNYX_STREAM_TOKENS": "planted-3",
    "GATEWAY_SIGNALWIRE_STREAM_TOKENS": "planted-4",
    "GATEWAY_TOKEN_SECRET": "planted-5",
    "GATEWAY_API_TOKENS": "planted-6",
    "GATEWAY_WEBHOOK_URL": "https://crm.example.com/planted-7",
    "GATEWAY_WEBHOOK_SECRETS": "whsec_" + base64.b64encode(b"planted-8" * 3).decode(),
    "GATEWAY_PUBLIC_URL": "https://gw.example.com",
    "GATEWAY_TELNYX_PUBLIC_KEY": base64.b64encode(b"planted-9" * 3 + b"12345").decode(),
}


def test_no_secret_is_ever_shown() -> None:
    """Neither the description, nor the warnings, nor the repr hold a planted secret."""
    settings = load(PLANTED)
    shown = "\n".join((*settings.describe(), *settings.warnings, repr(settings)))
    assert "planted" not in shown
    assert PLANTED["GATEWAY_WEBHOOK_SECRETS"] not in shown
    assert PLANTED["GATEWAY_TELNYX_PUBLIC_KEY"] not in shown


def test_no_fault_shows_a_value() -> None:
    """Secrets written into any variable at all never come back in a fault."""
    names = [
        "PORT",
        "HOST",
        "STORE",
        "PUBLIC_URL",
        "ASSEMBLYAI_URL",
        "KEEP_DAYS",
        "ALLOW_UNSIGNED",
        "WEBHOOK_ALLOW_CIDRS",
    ]
    environ = {f"GATEWAY_{name}": "plan\x07ted-secret" for name in names}
    with pytest.raises(ConfigurationFault) as caught:
        load(environ)
    assert "ted-secret" not in str(caught.value)


def test_description_names_each_route_s_proof() -> None:
    """`gateway check` says which proof each carrier route has, and what is missing where it has none."""
    shut = "\n".join(load(ENOUGH).describe())
    assert shut.count("every handshake is answered 403") == 3
    assert "GATEWAY_PUBLIC_URL" in shut
    on = "\n".join(load(PLANTED).describe())
    assert "/media/twilio: X-Twilio-Signature, 1 auth token" in on
    assert "/media/telnyx: stream token, 1 token or call-bound path token" in on
    assert "/media/signalwire: bearer token, 1 token" in on
    opened = "\n".join(load({**ENOUGH, "GATEWAY_ALLOW_UNSIGNED": "1"}).describe())
    assert opened.count("anybody is admitted") == 3
    assert "or NONE AT ALL" in "\n".join(load({**PLANTED, "GATEWAY_ALLOW_UNSIGNED": "1"}).describe())


@given(
    st.dictionaries(
        st.sampled_from(
            [
                f"GATEWAY_{n}"
                for n in (
                    "PORT",
                    "STORE",
                    "PUBLIC_URL",
                    "WEBHOOK_URL",
                    "WEBHOOK_ALLOW_CIDRS",
                    "TELNYX_PUBLIC_KEY",
                    "WEBHOOK_SECRETS",
                    "ASSEMBLYAI_URL",
                    "KEEP_DAYS",
                    "WEBHOOK_EVENTS",
                )
            ]
        ),
        st.text(max_size=40),
    )
)
def test_any_environment_is_settings_or_faults(environ: dict[str, str]) -> None:
    """Whatever is written, the answer is settings or sentences, never another exception."""
    with contextlib.suppress(ConfigurationFault):
        load({**ENOUGH, **environ})
