"""
AssemblyAI's v3 streaming service, played: its limits, its faults by knob, its ledger. Never imported by the gateway proper.

    server ── connection ──┬── session     the protocol: audio and orders in, refusals and heartbeats out (pure)
    (doors)   (one socket) ├── recogniser  what is heard: tones (coded speech) or sphinx (English)
                           ├── turns       when a turn begins, is said, ends; labels and revision (pure)
                           └── ledger      every session: how it ended, what it costs (pure)

`parameters` is the service's table of them, `tokens` its mint, `messages` what it says, `faults` every knob.
"""
