"""Calls and sessions: how many, how long, how they end, zombies, and what they cost."""

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
    quantiles,
    rate,
    total,
)

NOW = Row(
    "Now",
    [
        Number(
            "Active calls",
            "Conversations whose media stream is open, or awaited back, now.",
            "short",
            [Query(total("gateway_calls_active"))],
        ),
        Number(
            "Active legs",
            "Parties being transcribed now: at most two a call.",
            "short",
            [Query(total("gateway_legs_active"))],
        ),
        Number(
            "Open sessions",
            "Sessions open at the speech service now. Each is billed while it is open; more than legs for minutes is a leak.",
            "short",
            [Query(total("gateway_sessions_open"))],
        ),
        Number(
            "Zombie sessions",
            "Sessions whose close was not confirmed, or that nobody owns: perhaps open, perhaps billed. Should be 0.",
            "short",
            [Query(total("gateway_zombie_sessions"))],
            warn=1,
            alarm=3,
        ),
        Number(
            "Oldest session",
            "Age of the oldest open session. The service ends sessions at 3 h; older means that we missed its end.",
            "s",
            [Query(total("gateway_oldest_session_seconds", of="max"))],
            warn=10_200,
            alarm=10_800,
        ),
        Number(
            "Spent today",
            "US dollars since midnight UTC by the rate card, open sessions included.",
            "currencyUSD",
            [Query(total("gateway_spend_today_usd"))],
        ),
    ],
)

CALLS = Row(
    "Calls",
    [
        Graph(
            "Calls, legs and sessions",
            "Legs follow calls, sessions follow legs. Sessions above legs for minutes: a leak. Legs above sessions: the service refuses or is away.",
            "short",
            [
                Query(total("gateway_calls_active"), "calls"),
                Query(total("gateway_legs_active"), "legs"),
                Query(total("gateway_sessions_open"), "sessions"),
            ],
        ),
        Graph(
            "Calls ended, by reason",
            "How calls ended in each step. stopped is the normal end; socket_lost and media_timeout are the carrier's network; gateway_lost is a crash of ours.",
            "short",
            [Query(increase("gateway_calls_total", by="reason", match=MATCH_CARRIER), "{{reason}}")],
            stacked=True,
        ),
        Graph(
            "Calls ended, by carrier",
            "The same by carrier.",
            "short",
            [Query(increase("gateway_calls_total", by="carrier", match=MATCH_CARRIER), "{{carrier}}")],
            stacked=True,
        ),
        Graph(
            "Sessions open, by track",
            "inbound is the party on the carrier leg that runs the stream, outbound the other. A lasting difference: one party's sessions fail.",
            "short",
            [Query(total("gateway_sessions_open", by="track"), "{{track}}")],
            stacked=True,
            board="gateway-transcription",
        ),
    ],
)

SESSIONS = Row(
    "Sessions",
    [
        Heatmap(
            "Session duration",
            "How long sessions were that ended in each step, from opened to closed: what the service bills. A band at 3 h is sessions nobody closed.",
            "s",
            buckets("gateway_session_duration_seconds"),
        ),
        Graph(
            "Session duration, percentiles",
            "Half, nine tenths and nearly all sessions were shorter than this. Points carry the id of a call.",
            "s",
            quantiles("gateway_session_duration_seconds", 0.5, 0.9, 0.99),
            exemplars=True,
        ),
        Graph(
            "How sessions end",
            "terminated is the normal end, by us and confirmed. lost: dropped by network or service, and replaced. refused: see Transcription. zombie: not confirmed.",
            "short",
            [Query(increase("gateway_sessions_ended_total", by="reason"), "{{reason}}")],
            stacked=True,
            board="gateway-transcription",
        ),
        Graph(
            "Zombies",
            "Zombies now, and new ones by reason. unconfirmed_terminate: network or service; unowned: a bug of ours; crash: left by a process that died.",
            "short",
            [
                Query(total("gateway_zombie_sessions"), "now"),
                Query(increase("gateway_zombies_total", by="reason"), "new: {{reason}}"),
            ],
            warn=1,
        ),
        Graph(
            "Oldest session",
            "By process. The line is the service's limit of 3 h.",
            "s",
            [Query(total("gateway_oldest_session_seconds", by="instance", of="max"), "{{instance}}")],
            alarm=10_800,
        ),
        Graph(
            "Time to connect",
            "From dialling the service to its Begin. Audio waits meanwhile.",
            "s",
            quantiles("gateway_session_connect_seconds", 0.5, 0.95, 0.99),
        ),
    ],
)

MONEY = Row(
    "Money",
    [
        Graph(
            "Cost an hour, by model",
            "US dollars an hour by the rate card. Sessions count when they end.",
            "currencyUSD",
            [Query(f"3600 * {rate('gateway_session_cost_usd_total', by='model')}", "{{model}}")],
            stacked=True,
        ),
        Graph(
            "Cost an hour, by item",
            "The same by the base model and each add-on. On a leg with one voice, speaker labels buy nothing.",
            "currencyUSD",
            [Query(f"3600 * {rate('gateway_session_cost_item_usd_total', by='item')}", "{{item}}")],
            stacked=True,
        ),
        Graph(
            "Billed and spoken",
            "Seconds billed in each second, and those of them inside turns. The difference is the waste: silence, the other party, hold music.",
            "short",
            [
                Query(rate("gateway_session_billed_seconds_total"), "billed"),
                Query(rate("gateway_session_spoken_seconds_total"), "spoken"),
                Query(rate("gateway_session_waste_seconds_total"), "waste"),
                Query(rate("gateway_zombie_leak_seconds_total"), "zombies, estimated"),
            ],
        ),
        Graph(
            "Waste",
            "Share of the billed seconds in which nobody of the leg spoke. Half is normal for two parties; near all is streams left open.",
            "percentunit",
            [
                Query(
                    f"{rate('gateway_session_waste_seconds_total')} / ({rate('gateway_session_billed_seconds_total')} > 0)",
                    "waste",
                )
            ],
            axis_max=1,
        ),
        Graph(
            "Waste and leaks in dollars",
            "US dollars an hour: the waste by the rate card, and the estimate of what zombies cost.",
            "currencyUSD",
            [
                Query(f"3600 * {rate('gateway_session_waste_usd_total')}", "waste"),
                Query(f"3600 * {rate('gateway_zombie_leak_usd_total')}", "zombies"),
            ],
        ),
        Graph(
            "Spent today against the budget",
            "US dollars since midnight UTC, and GATEWAY_BUDGET_USD_PER_DAY where it is set.",
            "currencyUSD",
            [
                Query(total("gateway_spend_today_usd"), "spent"),
                Query(f"{total('gateway_budget_usd_per_day')} or vector(0)", "budget"),
            ],
        ),
    ],
)

BOARD = Board(
    uid="gateway-calls",
    title="Gateway / Calls & sessions",
    description="How many calls and sessions there are, how long sessions last, how they end, whether any is a zombie, and what it costs.",
    rows=[NOW, CALLS, SESSIONS, MONEY],
)
