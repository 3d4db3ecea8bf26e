"""Entrances: every HTTP and WebSocket route, on the carriers' port and on the admin port."""
