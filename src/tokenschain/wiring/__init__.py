"""Wiring: the only place where concrete parts meet ports, one file per kind of process.

A process imports its own file only, so that a gateway does not carry control's libraries.
"""
