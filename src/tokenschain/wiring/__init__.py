"""The only place where concrete parts meet ports: one file for each kind of process.

A process imports its own file only, so that a gateway does not carry control's libraries.
"""
