"""
Dashboards as code: `python -m grafana.build` writes `dashboards/*.json` from the boards here, and the tests hold both equal.

    parts.py            what all boards share: variables, links, alert marks, and the kinds of panels
    calls.py            calls and sessions: how many, how long, how they end, zombies, money
    transcription.py    audio in, words out: delays, gaps, lost sessions
    webhooks.py         deliveries: attempts, delay, backlog, dead letters
    process.py          the process: loop, CPU, memory, handshakes
    build.py            writes them
    dashboards/         what Grafana reads (never edited by hand)
    provisioning/       where Grafana finds data source and boards
"""
