"""
The speech service: AssemblyAI's v3 streaming.

    parameters   what a session is asked for: the SDK's own model, and its exact query
    protocol     what it says, typed and tolerant, and the session's state table        pure
    losses       how a session is lost, and what follows from each way                   pure
    pacing       how fast waiting audio may go; what the service cannot have heard yet   pure
    liveness     whether a link that looks open still carries anything                   pure
    admission    new sessions a minute, for everybody together; the circuit
    ledger       every session from before its connect to after its confirmed close
    tokens       temporary tokens, minted ahead of need
    session      one session over aiohttp, with its one closer
    service      all of it as one thing that opens sessions
"""
