"""Carriers that play calls, the load generator, the benchmark and the fault tour. Never imported by the gateway proper."""
