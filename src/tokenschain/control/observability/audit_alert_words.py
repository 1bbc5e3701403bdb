"""Words of alerts about the sealed audit log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def words(kind: str, detail: Mapping[str, Any]) -> tuple[str, str]:
    """What an alert about the log says, in Chinese and in English."""
    count, reason = detail.get("count"), detail["reason"]
    if kind == "audit_receipt_broken":
        call = detail["subject"][0]
        return (
            f"调用 {call} 有平台的回执，审计日志中却没有相符的记录（{reason}）："
            "可能在封存前被隐去或改动。",
            f"Call {call} has a receipt of the platform, and the audit log no record that agrees "
            f"with it ({reason}): it may have been left out or changed before it was sealed.",
        )
    if kind == "audit_differs":
        day = detail["subject"][0]
        return (
            f"{day} 的审计日志与账本有 {count} 次调用不一致（{reason}）。"
            f"请运行 tokenschain audit reconcile {day}。",
            f"Audit log and ledger of {day} differ about {count} calls ({reason}). See "
            f"`tokenschain audit reconcile {day}`.",
        )
    if kind == "audit_unsealed":
        return (
            f"审计日志已停止封存，记录仍在等待：{reason}",
            f"The audit log is not sealed, and what happens waits: {reason}",
        )
    if kind == "audit_unanchored":
        return (
            f"审计日志的锚定位置只有 {count} 个在一天内有效，应有 {detail['amount']} 个：{reason}",
            f"{count} of {detail['amount']} places had a checkpoint of the audit log within a day: "
            f"{reason}",
        )
    return (
        f"审计日志只有 {count} 个见证者签署，应有 {detail['amount']} 个：{reason}",
        f"{count} witnesses cosign the audit log, and {detail['amount']} should: {reason}",
    )
