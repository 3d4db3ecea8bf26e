"""
Carriers' media streams in, signed and ordered transcription webhooks out; no word lost, no session leaked.

Three belts, no way back: the end of a call is the last thing on each of them, so nothing can overtake it.

    AUDIO (the oldest gives way)                     TURNS (nothing gives way)                 DELIVERIES (at least once, in order)

    carrier ─▶ media ─▶ timeline ─▶ AudioBuffer ─▶ path ─▶ session ══▶ ear ─▶ transcript ─▶ events ─▶ outbox ─▶ webhooks ─▶ customer
      ws       messages  positions      ▲                  AssemblyAI           turns                  SQLite    lanes
                                        └── heard again after a loss

Words: a **call** is the conversation, a **stream** one media WebSocket of it, a **track** a direction on the wire, a **leg** one
party's voice over all streams. A leg's audio comes in **spans**; a span is heard by one **session** after another (an AssemblyAI
connection, `Begin` to `Termination`), each with an **ear** that knows where its audio lies. What is said between silences is a
**turn**; what a customer is promised is an **event**, owed as a **delivery**, tried in **attempts**. A **zombie** is a session
whose end was not confirmed, or that nobody owns. **Positions** are samples at 8 kHz on the call's clock.

To follow one word, read: stream, leg, ear, transcript, livecall. Floors; imports go down only (`tests/test_floors.py` holds that):

    0  words        call  delivery  errors  events  cost                      what is spoken of; no I/O
                    config                                                    settings and profiles, every fault at once
    1  machines     media/        carriers' messages; each handshake's proof
       (pure)       timeline      frames in order on the call's clock; gaps
                    audio/        G.711 in, legal chunks out
                    placement     where a session's audio lies on the clock
                    quiet resume  where nobody speaks; where hearing goes on after a loss
                    transcript    a leg's turns over its sessions, each final once
                    rehearing     which words a session says again, and which are new
                    speech/protocol losses pacing liveness parameters         the service's rules
                    webhooks/signing retry breaker                            Standard Webhooks; what follows from an answer
    2  ports        buffer        a leg's audio, bounded; readable again
                    speech/session        one connection, with its one closer
                    speech/admission ledger tokens service                    who may open one; which are open
                    outbox/       events that survive us, in SQLite
                    webhooks/sender       one attempt: signed, to an address that is allowed
                    metrics log systemd looplag tasks
    3  runners      stream        one carrier socket: fills its call's legs
                    leg  span     one party's voice, first frame to last turn: the heart
                    feed  ear     a session's mouth and ear: audio out, words in
                    livecall, calls       a call's clock, its events in order, its end; the registry, and its watchdog
                    webhooks/worker desk  lanes in parallel; the operator's desk
    4  entrances    http/         media, carriers' webhooks, health, deliveries
                    cli/          one file a command
       roof         app           everything opened in order; the drain
    beside          emulator/     AssemblyAI's service, played, with its faults and its ledger
                    simulator/    carriers that play calls; demo, benchmark, fault tour

Where the next thing goes: a carrier is a machine in `media/`, a line in `http/media.py` and its proof in `media/proof.py`; an event is a
struct in `events.py` and whoever emits it; another outbox is a file in `outbox/` that passes `tests/outbox/contract.py`; another
metric is a series in `metrics.py` with what to look at when it moves.

Decided here, otherwise than one might expect:

* A session is one task of the service's group, not of the leg that hears it. Cancelling a leg cannot skip `Terminate`.
* A leg is a row of spans, and a rotation is nothing but a span that begins where another was cut. So loss, rotation, idle time,
  a carrier's reconnect and a pause are one mechanism, and turns come out in the order of spans.
* A stream that comes back before `call.ended` was said goes on with the call, whatever had begun to end it.
* After `Terminate` a voice that no turn was made of earns another session as an open turn does: else words at a hang-up could be lost.
* Where no turn is open, hearing goes on from the last final word, where that is later than 5 s before the loss.
* Where open turns are not shown (redaction, no partials), hearing goes on from the last silence that surely ended one.
"""
