"""Evidence: each function reads the running platform and says what it found, and what is missing.

Nothing here is remembered or assumed: a query reads the database, the configuration in force, the
files of secrets and what gateways said last. A gap is named by its code; `controls.yaml` has the
words. No value is a secret, and none is content of a call.
"""

from __future__ import annotations

from collections.abc import Mapping

from tokenschain.control.compliance.evidence import (
    audit_log,
    duties,
    machines,
    people,
    recipients,
    screening,
)
from tokenschain.control.compliance.evidence.finding import PlatformFacts, Query, QueryResult

QUERIES: Mapping[str, Query] = {
    one.__name__: one
    for one in (
        people.second_factors, people.password_rules, people.lockout, people.sessions,
        people.standing_accounts, people.owners_few, people.keys_bounded,
        people.powers_apart, people.second_person, people.acts_signed,
        audit_log.audit_is_sealed, audit_log.calls_sealed, audit_log.audit_verifies,
        audit_log.witness_cosigns, audit_log.audit_reconciles, audit_log.records_kept,
        audit_log.handing_over_kept, audit_log.records_entered, audit_log.labels_traced,
        duties.incidents_reported, duties.requests_answered,
        machines.versions, machines.started_as_installed, machines.transport_encrypted,
        machines.secrets_sealed, machines.algorithms_tested, machines.national_algorithms,
        machines.stored_sealed,
        machines.alerts_reach, machines.clock_agrees,
        screening.moderation_in_force, screening.moderation_fails_closed, screening.engines_asked,
        screening.offenders_suspended, screening.media_screened, screening.keyword_packs,
        screening.packs_signed, screening.review_in_time, screening.personal_data_kept_in,
        screening.texts_kept, screening.meanings_apart, screening.data_stays,
        recipients.processors_registered,
        screening.models_filed, screening.answers_labelled, screening.metadata_labelled,
    )
}  # fmt: skip
"""By the name that `controls.yaml` has."""


def run(name: str, facts: PlatformFacts) -> QueryResult:
    """What a query finds now.

    Raises:
        KeyError: there is none of that name.
    """
    return QUERIES[name](facts)
