"""The process: its loop, CPU, memory, store, and who is refused at the door."""

from grafana.parts import (
    MATCH,
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
    total,
)

_REFUSED = 'gateway_handshakes_total{outcome!="accepted"}'
_CPU = f"sum by (instance) (rate(process_cpu_seconds_total{{{MATCH}}}[$__rate_interval]))"

NOW = Row(
    "Now",
    [
        Number(
            "Alerts firing",
            "Alerts of the gateway that fire now.",
            "short",
            [Query(f'count(ALERTS{{{MATCH}, alertname=~"Gateway.+", alertstate="firing"}}) or vector(0)')],
            warn=1,
        ),
        Number(
            "Version",
            "What runs, and on how many processes. Two versions outside a deployment: one process was forgotten.",
            "short",
            [Query(total("gateway_build_info", by="version"), "{{version}}")],
        ),
        Number(
            "Up for",
            "Since the youngest process started.",
            "s",
            [Query(f"time() - {total('process_start_time_seconds', of='max')}")],
        ),
        Number(
            "CPU",
            "Of one core, the busiest process. A process cannot use more than one.",
            "percentunit",
            [Query(f"max({_CPU})")],
            warn=0.7,
            alarm=0.8,
        ),
        Number(
            "Loop lag, p99",
            "How late the event loop wakes.",
            "s",
            [Query(quantile(0.99, "gateway_event_loop_lag_seconds"))],
            warn=0.05,
            alarm=0.1,
        ),
        Number(
            "Draining",
            "Processes that were told to stop and wait for their calls to end.",
            "short",
            [Query(total("gateway_draining"))],
            warn=1,
        ),
    ],
)

LOOP = Row(
    "Event loop",
    [
        Heatmap(
            "Loop lag",
            "How late the event loop wakes: every call of the process feels it.",
            "s",
            buckets("gateway_event_loop_lag_seconds"),
        ),
        Graph(
            "Loop lag, percentiles",
            "The same. The line is where GatewayEventLoopLag looks.",
            "s",
            quantiles("gateway_event_loop_lag_seconds", 0.5, 0.95, 0.99),
            alarm=0.1,
        ),
        Graph("CPU", "Of one core, by process.", "percentunit", [Query(_CPU, "{{instance}}")], alarm=0.8, axis_max=1),
        Graph(
            "CPU for each active leg",
            "CPU seconds a second, divided by legs. Growing with the same audio: something other than calls is at work.",
            "s",
            [Query(f"{_CPU} / (sum by (instance) (gateway_legs_active{{{MATCH}}}) > 0)", "{{instance}}")],
        ),
    ],
)

RESOURCES = Row(
    "Resources",
    [
        Graph(
            "Memory",
            "Resident, by process.",
            "bytes",
            [Query(total("process_resident_memory_bytes", by="instance"), "{{instance}}")],
        ),
        Graph(
            "File descriptors",
            "Open, against the limit. A call holds one socket to its carrier and one a session.",
            "short",
            [
                Query(total("process_open_fds", by="instance"), "{{instance}} open"),
                Query(total("process_max_fds", by="instance"), "{{instance}} limit"),
            ],
        ),
        Graph(
            "Store healthy",
            "1 while the store can be written, the lowest of the processes. At 0 no new calls are taken.",
            "short",
            [Query(total("gateway_store_healthy", of="min"), "healthy")],
            axis_max=1,
        ),
        Graph(
            "Garbage collections",
            "Collections in each step, by generation. Each of generation 2 stops the loop for a moment.",
            "short",
            [Query(increase("python_gc_collections_total", by="generation"), "generation {{generation}}")],
        ),
    ],
)

DOOR = Row(
    "Handshakes",
    [
        Graph(
            "Handshakes",
            "Media streams and signed requests that asked to be let in, in each step, by outcome.",
            "short",
            [Query(increase("gateway_handshakes_total", by="outcome", match=MATCH_CARRIER), "{{outcome}}")],
            stacked=True,
        ),
        Graph(
            "Handshakes refused, by carrier",
            "Without proof, with a wrong one, while draining, or failed at the carrier. A rotated token shows here first.",
            "short",
            [Query(increase(_REFUSED, by="carrier", match=MATCH_CARRIER), "{{carrier}}")],
            stacked=True,
        ),
    ],
)

BOARD = Board(
    uid="gateway-process",
    title="Gateway / Process",
    description="Whether the process keeps up: event loop, CPU, memory, files, and who is refused at the door.",
    rows=[NOW, LOOP, RESOURCES, DOOR],
)
