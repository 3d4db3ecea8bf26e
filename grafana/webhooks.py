"""Deliveries: attempts, delay, backlog and dead letters."""

from grafana.parts import Board, Graph, Heatmap, Number, Query, Row, buckets, increase, quantile, quantiles, rate, total

_ATTEMPTS = rate("gateway_deliveries_total")
_DELIVERED = rate('gateway_deliveries_total{outcome="delivered"}')
_FAILED = rate('gateway_deliveries_total{outcome!="delivered"}')

NOW = Row(
    "Now",
    [
        Number("Events owed", "Events stored and not yet settled.", "short", [Query(total("gateway_outbox_events"))]),
        Number(
            "Oldest owed",
            "Age of the oldest event that is owed.",
            "s",
            [Query(total("gateway_outbox_oldest_seconds", of="max"))],
            warn=60,
            alarm=900,
        ),
        Number(
            "Dead letters",
            "Events given up after 3 days, kept for `gateway deliveries replay`.",
            "short",
            [Query(total("gateway_dead_letters"))],
            alarm=1,
        ),
        Number(
            "Endpoints disabled",
            "Endpoints that answered 410 and wait for `gateway deliveries enable`.",
            "short",
            [Query(total("gateway_endpoints_disabled"))],
            warn=1,
        ),
        Number(
            "Delivered",
            "Share of the attempts that the endpoints took.",
            "percentunit",
            [Query(f"{_DELIVERED} / ({_ATTEMPTS} > 0)")],
        ),
        Number(
            "Delivery, p95",
            "An event's storing to its endpoint's 2xx.",
            "s",
            [Query(quantile(0.95, "gateway_delivery_seconds"))],
            warn=5,
            alarm=60,
        ),
    ],
)

ATTEMPTS = Row(
    "Attempts",
    [
        Graph(
            "Attempts, by outcome",
            "What became of the event with each attempt. retried is tried again for 3 days; gone: the endpoint said 410; dead_lettered: given up.",
            "reqps",
            [Query(rate("gateway_deliveries_total", by="outcome"), "{{outcome}}")],
            stacked=True,
        ),
        Graph(
            "Attempts, by answer",
            "accepted is a 2xx. refused: 4xx (a wrong secret?); failed: 5xx; timeout: slower than 15 s; unreachable, insecure, blocked: the address; gone: 410.",
            "reqps",
            [Query(rate("gateway_delivery_answers_total", by="answer"), "{{answer}}")],
            stacked=True,
        ),
        Graph(
            "Time to the first attempt",
            "An event's storing to its first attempt, where nothing of its call was before it: our own part of the delay.",
            "s",
            quantiles("gateway_delivery_first_attempt_seconds", 0.5, 0.95, 0.99),
            board="gateway-process",
        ),
        Graph(
            "Attempts that failed",
            "Share of the attempts that did not settle their event. Each is tried again for 3 days.",
            "percentunit",
            [
                Query(
                    f"{_FAILED} / ({_ATTEMPTS} > 0)",
                    "failed",
                )
            ],
            axis_max=1,
        ),
        Heatmap("Delivery time", "An event's storing to its endpoint's 2xx.", "s", buckets("gateway_delivery_seconds")),
        Graph(
            "Delivery time, percentiles",
            "The same. Points carry the id of a call. Within a call an early event holds the later ones.",
            "s",
            quantiles("gateway_delivery_seconds", 0.5, 0.95, 0.99),
            exemplars=True,
        ),
    ],
)

BACKLOG = Row(
    "Backlog",
    [
        Graph(
            "Events owed",
            "By process. Growing: an endpoint fails, or is slower than the calls.",
            "short",
            [Query(total("gateway_outbox_events", by="instance"), "{{instance}}")],
        ),
        Graph(
            "Oldest owed",
            "By process. The line is where GatewayWebhookBacklogOld looks.",
            "s",
            [Query(total("gateway_outbox_oldest_seconds", by="instance", of="max"), "{{instance}}")],
            alarm=900,
        ),
        Graph(
            "Dead letters",
            "Kept now, and newly given up in each step.",
            "short",
            [
                Query(total("gateway_dead_letters"), "kept"),
                Query(increase('gateway_deliveries_total{outcome="dead_lettered"}'), "new"),
            ],
        ),
        Graph(
            "Store commits",
            "One commit with its sync to disk. Every turn and event waits for one.",
            "s",
            quantiles("gateway_store_commit_seconds", 0.5, 0.95, 0.99),
            board="gateway-process",
        ),
    ],
)

BOARD = Board(
    uid="gateway-webhooks",
    title="Gateway / Webhooks",
    description="Whether events arrive at their endpoints, how late, and what is owed or given up.",
    rows=[NOW, ATTEMPTS, BACKLOG],
    by_carrier=False,
)
