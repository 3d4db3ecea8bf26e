"""AssemblyAI's v3 streaming service: what it says, what each failure means, one session's shell, and the ledger of all sessions."""
