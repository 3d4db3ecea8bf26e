"""Deliveries: sign, send, judge, try again. A refused webhook is a value here and never reaches a leg."""
