"""Implicit labels of AI-generated files (GB 45438-2025): written into files and read from them."""
