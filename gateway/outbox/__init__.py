"""What is owed to customers and must survive us: events in lanes, calls, turns and sessions. One contract, one SQLite store behind it."""
