"""Call records for tests of the ledger."""

from __future__ import annotations

from tokenschain.core.call_record import AttemptRecord, CallRecord


def record(number: int, **fields: object) -> CallRecord:
    made = CallRecord(f"req_{number:08x}", 1_790_000_000_000 + number * 60_000, "chat/completions")
    made.tenant, made.project, made.environment, made.key_id = f"t{number % 3}", "p", "e", "k"
    made.model_asked, made.upstream, made.outcome, made.status = "m", "up", "ok", 200
    made.prompt_tokens, made.completion_tokens, made.cost_pico = number, 2 * number, number * 10**12
    made.currency, made.usage_source = "CNY", "provider"
    made.charge_pico, made.charge_currency = made.cost_pico, "CNY"
    made.attempts = [AttemptRecord("up", 0.1, 1.0, 2.0, "ok")]
    for name, value in fields.items():
        setattr(made, name, value)
    return made
