"""Strict vendor simulators: each refuses what its vendor refuses, with the vendor's own words.

`rules` checks OpenAI-compatible chat, `anthropic` and `native` the other protocols, `table` says
what each vendor's rules are and where they are written, `vendor` answers in the vendor's shape.
"""
