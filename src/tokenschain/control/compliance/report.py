"""Compliance report: the controls of a standard with evidence as found now, in a signed bundle.

A bundle is a tar file: `report.html` for people, `report.json`, what each query found below
`evidence/`, the audit log's checkpoint, and `manifest`: a signed note over the digests of them all.
A report says what was found and what is missing. It certifies nothing.
"""

from __future__ import annotations

import io
import json
import tarfile
import time
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple, get_args

import msgspec

from tokenschain import __version__
from tokenschain.control.audit import log
from tokenschain.control.compliance import controls, evidence, report_page
from tokenschain.control.compliance.controls import Control, ControlList, Words
from tokenschain.control.compliance.evidence.finding import PlatformFacts, QueryResult
from tokenschain.control.compliance.results import ComplianceReport, ControlResult, FoundGap, State
from tokenschain.core.audit import checkpoint
from tokenschain.infra.security.note_keys import NoteSecret
from tokenschain.infra.security.suite import INTERNATIONAL

MANIFEST = "manifest"
_KIND = "tokenschain compliance report v1"


class Bundle(NamedTuple):
    """A report as files."""

    tar: bytes
    manifest_digest: str


def make(standard: str, facts: PlatformFacts, known: ControlList | None = None) -> ComplianceReport:
    """Run the queries of a standard; each once, however many controls it answers."""
    known = known or controls.shipped()
    found: dict[str, QueryResult] = {}
    results = []
    for control in known.of(standard):
        if control.query and control.query not in found:
            found[control.query] = evidence.run(control.query, facts)
        results.append(_result(control, found.get(control.query), known.gaps))
    note = log.latest_checkpoint(facts.db)
    info = known.standards[control.standard]
    counts: dict[State, int] = dict.fromkeys(get_args(State), 0)
    return ComplianceReport(
        standard=standard,
        title=info.title,
        source=info.source,
        at_ms=int(facts.now_s * 1_000),
        version=__version__,
        log="" if note is None else log.checkpoint_of(note).origin,
        counts=counts | Counter(one.state for one in results),
        controls=results,
    )


def _result(
    control: Control, finding: QueryResult | None, words: Mapping[str, Words]
) -> ControlResult:
    if finding is None:
        assert control.why is not None
        gaps = [FoundGap(control.status, control.why.en, control.why.zh)]
        state: State = "organizational" if control.status == "organizational" else "open"
    else:
        gaps = [
            FoundGap(
                gap.code,
                words[gap.code].en.format(**gap.values),
                words[gap.code].zh.format(**gap.values),
            )
            for gap in (*finding.gaps, *finding.absent)
        ]
        state = "open" if finding.gaps else "unproven" if finding.absent else "met"
    return ControlResult(
        id=control.id,
        clause=control.clause,
        asks=control.asks,
        applies_when=control.applies_when,
        state=state,
        gaps=gaps,
        query=control.query,
        values={} if finding is None else finding.values,
        feature=control.feature,
        test=control.test,
        source=control.source,
        confidence=control.confidence,
    )


def bundle(report: ComplianceReport, note: str | None, secret: NoteSecret, name: str) -> Bundle:
    """A report as a signed bundle.

    Args:
        note: the audit log's latest checkpoint.
        name: that the signature is under: the audit log's.
    """
    files = {
        "report.json": pretty(report),
        "report.html": report_page.html_of(report).encode(),
        **{
            f"evidence/{one.query}.json": pretty({"query": one.query, "values": one.values})
            for one in report.controls
            if one.query
        },
    }
    if note is not None:
        files["checkpoint"] = note.encode()
    return signed_bundle(_KIND, report.standard, report.at_ms, files, secret, name)


def signed_bundle(
    kind: str, subject: str, at_ms: int, files: Mapping[str, bytes], secret: NoteSecret, name: str,
    elsewhere: Mapping[str, str] = {},
) -> Bundle:  # fmt: skip
    """Files with a manifest of their digests, signed, and the key.

    Args:
        kind: the manifest's first line.
        elsewhere: digests of files that whoever asked adds to the bundle.
    """
    own = {file: INTERNATIONAL.hex_digest(data) for file, data in files.items()}
    digests = {**own, **elsewhere}
    lines = "".join(f"{digest}  {file}\n" for file, digest in sorted(digests.items()))
    body = f"{kind}\n{name}\n{subject}\n{at_ms}\n{lines}"
    manifest = checkpoint.signed_text(body, *secret.signers(name)).encode()
    key = secret.public_key(name).encode() + b"\n"
    return Bundle(
        _tar({**files, MANIFEST: manifest, "key": key}), INTERNATIONAL.hex_digest(manifest)
    )


def pretty(value: object) -> bytes:
    """JSON for people."""
    text = json.dumps(msgspec.to_builtins(value), ensure_ascii=False, indent=1)
    return f"{text}\n".encode()


def _tar(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), int(time.time())
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()
