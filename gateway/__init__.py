"""map: later"""
