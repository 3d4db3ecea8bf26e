"""Audio in, words out: delays, gaps, and sessions lost."""

from grafana.parts import (
    MATCH_CARRIER,
    Board,
    Graph,
    Heatmap,
    Number,
    Query,
    Row,
    buckets,
    increase,
    quantile,
    quantiles,
    rate,
    total,
)

_LOST = (
    f"{rate('gateway_frames_lost_total', by='carrier', match=MATCH_CARRIER)}"
    f" / ({rate('gateway_frames_total', by='carrier', match=MATCH_CARRIER)}"
    f" + {rate('gateway_frames_lost_total', by='carrier', match=MATCH_CARRIER)} > 0)"
)
_LOST_ALL = (
    f"{rate('gateway_frames_lost_total', match=MATCH_CARRIER)}"
    f" / ({rate('gateway_frames_total', match=MATCH_CARRIER)} + {rate('gateway_frames_lost_total', match=MATCH_CARRIER)} > 0)"
)

NOW = Row(
    "Now",
    [
        Number(
            "Turns a minute",
            "Final turns a minute, both parties.",
            "short",
            [Query(f"60 * {rate('gateway_turns_total')}")],
        ),
        Number(
            "Audio delay, p99",
            "A frame read from the carrier to its audio handed to the service.",
            "s",
            [Query(quantile(0.99, "gateway_audio_delay_seconds"))],
            warn=0.5,
            alarm=1,
        ),
        Number(
            "Turn delay, p95",
            "End of a turn's words to its event stored. The profile's turn silence is part of it.",
            "s",
            [Query(quantile(0.95, "gateway_turn_delay_seconds"))],
            warn=3,
            alarm=5,
        ),
        Number(
            "Frames lost",
            "Share of the carriers' frames that never came.",
            "percentunit",
            [Query(_LOST_ALL)],
            warn=0.001,
            alarm=0.01,
        ),
        Number(
            "Sessions waiting",
            "Sessions waiting for the account's rate of new sessions. Their audio waits in memory.",
            "short",
            [Query(total("gateway_admission_waiting"))],
            warn=1,
        ),
        Number(
            "Circuit open",
            "1 while no session is tried, because the service refuses the key or the account.",
            "short",
            [Query(total("gateway_circuit_open", of="max"))],
            alarm=1,
        ),
    ],
)

WORDS = Row(
    "Words",
    [
        Graph(
            "Turns a minute",
            "Final turns by track. Flat while frames flow: the service hears nothing.",
            "short",
            [Query(f"60 * {rate('gateway_turns_total', by='track')}", "{{track}}")],
            stacked=True,
        ),
        Graph(
            "Turns revised a minute",
            "Turns whose speakers the service changed afterwards; each is told again as turn.revised.",
            "short",
            [Query(f"60 * {rate('gateway_turns_revised_total', by='track')}", "{{track}}")],
        ),
        Heatmap("Turn delay", "End of a turn's words to its event stored.", "s", buckets("gateway_turn_delay_seconds")),
        Graph(
            "Turn delay, percentiles",
            "The same. Points carry the id of a call. Late with the audio delay: reconnects that catch up. Late alone: the profile's turn silence, or the service.",
            "s",
            quantiles("gateway_turn_delay_seconds", 0.5, 0.95, 0.99),
            exemplars=True,
            alarm=5,
        ),
    ],
)

AUDIO = Row(
    "Audio",
    [
        Graph(
            "Frames a second",
            "Media frames read from carriers: 50 a second for each track.",
            "short",
            [Query(rate("gateway_frames_total", by="carrier, track", match=MATCH_CARRIER), "{{carrier}} {{track}}")],
            stacked=True,
        ),
        Graph(
            "Frames lost",
            "Share of the frames that the carrier numbered and never delivered. The network between carrier and gateway, or a process that reads too slowly.",
            "percentunit",
            [Query(_LOST, "{{carrier}}")],
            alarm=0.01,
        ),
        Heatmap(
            "Audio delay",
            "A frame read from the carrier to its audio handed to the service. 50 to 150 ms is normal: a chunk is 50 ms and more.",
            "s",
            buckets("gateway_audio_delay_seconds"),
        ),
        Graph(
            "Audio delay, percentiles",
            "The same. Above: a session was lost and hears again, or the event loop is late.",
            "s",
            quantiles("gateway_audio_delay_seconds", 0.5, 0.95, 0.99),
            alarm=1,
            board="gateway-process",
        ),
        Graph(
            "Audio sent",
            "Seconds of audio handed to the service in each second: 1 for each leg, more while a new session hears again.",
            "short",
            [Query(rate("gateway_audio_sent_seconds_total", by="track"), "{{track}}")],
            stacked=True,
        ),
        Graph(
            "Gaps",
            "Seconds of calls that nobody transcribed, in each step, by reason. Each was said to the endpoint as audio.gap.",
            "s",
            [Query(increase("gateway_audio_gap_seconds_total", by="reason"), "{{reason}}")],
            stacked=True,
        ),
    ],
)

LOST = Row(
    "Sessions lost",
    [
        Graph(
            "Reconnects, by code",
            "Sessions replaced in each step, by the code they were lost with. 1006 and 1011: network or service; 3007: our pacing; 3009, 429: the account's session rate.",
            "short",
            [Query(increase("gateway_session_reconnects_total", by="code"), "{{code}}")],
            stacked=True,
        ),
        Graph(
            "Service errors, by code",
            "Error messages and abnormal closes of the service in each step.",
            "short",
            [Query(increase("gateway_service_errors_total", by="code"), "{{code}}")],
            stacked=True,
        ),
        Graph(
            "Legs refused",
            "Parties without a transcript, because the service refuses: key and quota are the account's, parameters the profile's.",
            "short",
            [Query(increase("gateway_legs_refused_total", by="reason"), "{{reason}}")],
            stacked=True,
            warn=1,
        ),
        Graph(
            "Sessions waiting",
            "Sessions waiting for the account's rate of new sessions, by process.",
            "short",
            [Query(total("gateway_admission_waiting", by="instance"), "{{instance}}")],
        ),
        Graph(
            "Malformed messages",
            "Messages that were not what their protocol says, by who sent them; counted and skipped.",
            "short",
            [Query(increase("gateway_malformed_total", by="source"), "{{source}}")],
            stacked=True,
        ),
        Graph(
            "Messages without use",
            "Well-formed messages from which nothing follows: marks, keypad digits, unknown events.",
            "short",
            [Query(increase("gateway_ignored_total", by="kind", match=MATCH_CARRIER), "{{kind}}")],
            stacked=True,
        ),
    ],
)

BOARD = Board(
    uid="gateway-transcription",
    title="Gateway / Transcription",
    description="Whether the audio arrives, is heard and becomes words in time, and where words were lost.",
    rows=[NOW, WORDS, AUDIO, LOST],
)
