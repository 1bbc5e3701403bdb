"""OpenAI-compatible upstreams: requests, replies and streams of any vendor.

Requests go out in the vendor's dialect with the upstream's model name and with usage asked
for; replies come back as bytes, touched only where they must be. A stream is relayed from the
upstream's transport to the caller's without a task switch per event. Vendors that speak
another protocol than OpenAI's bring a `VendorProtocol`; everything else about them is the same.

`upstreams` opens calls, at what `targets` knows of an address; `replies` and `streams` bring
back what comes; `failures` says what went wrong.
"""

from tokenschain.providers.openai_compat.upstreams import HttpUpstreams

__all__ = ["HttpUpstreams"]
