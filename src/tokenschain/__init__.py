"""TokensChain: one OpenAI-compatible API over China's model clouds and your own engines."""

__version__ = "0.1.0"
