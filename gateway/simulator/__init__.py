"""
Carriers that play calls, the load generator, the demonstration, the benchmark and the fault tour. Never imported by the gateway proper.

    audio ── frames ── twilio, telnyx, signalwire ──▶ player ══ a gateway ══▶ receiver ── check ── count
    (what is   (when it  (its messages: pure          (one socket,             (webhooks,   (in order?  (words lost?
     spoken)    leaves)   machines of `streams`)       at real pace)            verified)    pure)       pure)

`handshake` is what carriers show at the door, `recorded` plays what was once kept, `wav` and `bundled` are files.
`process` runs a command beside us, `whole` all of a gateway's surroundings. On these stand

    load, figures, report      `gateway simulate`: many calls, and what they cost
    demo, conversation         `gateway demo`: one call, to be watched
    bench, floor, sink, storebench     `make bench`: against the barest server there can be
    chaos, stage, scenarios    `make chaos`: every fault in every phase of a call
"""
