"""Tests mirror the source: each module has a test file of its name, or stands here with a reason.

The reason names where the module is tested, or says why there is nothing to test.
"""

from __future__ import annotations

import re

from tests.house.tree import ROOT, modules, name_of

TESTS = ROOT / "tests"
DECLARATIONS = "declarations only"
ELSEWHERE: dict[str, str] = {
    "cli/admin.py": "e2e/test_platform.py",
    "cli/admin_client.py": "e2e/test_platform.py",
    "cli/cache.py": "e2e/test_platform.py",
    "cli/chat.py": "e2e/test_platform.py",
    "cli/chat_client.py": "e2e/test_platform.py",
    "cli/database.py": "e2e/test_platform.py",
    "cli/doctor.py": "e2e/test_platform.py",
    "cli/http.py": "e2e/test_platform.py",
    "cli/models.py": "e2e/test_platform.py",
    "cli/output.py": "e2e/test_platform.py",
    "cli/ports.py": "e2e/test_platform.py",
    "cli/run.py": "e2e/test_platform.py",
    "cli/simulate.py": "e2e/test_platform.py",
    "cli/vault.py": "e2e/test_platform.py",
    "control/api/app.py": "control/api/test_errors.py",
    "control/api/billing.py": "control/billing/test_wallets.py, control/billing/test_ledger.py",
    "control/api/cache.py": "flows/test_caching.py, flows/test_meaning.py",
    "control/api/former_names.py": "control/api/test_errors.py",
    "control/api/health.py": "e2e/test_durability.py",
    "control/api/internal.py": "e2e/test_durability.py",
    "control/api/keys.py": "control/identity/test_api_keys.py",
    "control/api/limits.py": "field_failures/test_limits.py",
    "control/api/money.py": "control/billing/test_wallets.py",
    "control/api/organization.py": "control/api/test_isolation.py",
    "control/api/sessions.py": "control/identity/test_users.py",
    "control/api/single_sign_on.py": "control/identity/test_oidc.py",
    "control/billing/limits.py": "field_failures/test_limits.py",
    "control/api/rejected_records.py": "security/test_bad_records.py",
    "control/billing/rejected_records.py": "security/test_bad_records.py",
    "control/billing/pricing.py": "control/billing/test_ledger.py",
    "control/cache/rules_and_stats.py": "flows/test_caching.py, flows/test_meaning.py",
    "control/cache/semantic_client.py": "flows/test_caching.py, flows/test_meaning.py",
    "control/identity/login_throttle.py": "security/test_sign_in.py",
    "control/identity/organization.py": "control/api/test_isolation.py",
    "control/identity/ownership.py": "security/test_rights.py",
    "control/maintenance.py": "e2e/test_durability.py",
    "control/publisher.py": "e2e/test_durability.py",
    "control/response_archive.py": "e2e/test_durability.py",
    "control/revisions.py": "e2e/test_durability.py",
    "core/cache/directives.py": "flows/test_caching.py, field_failures/test_cache.py",
    "core/cache/response.py": "flows/test_caching.py, field_failures/test_cache.py",
    "core/cache/semantic_protocol.py": "flows/test_meaning.py, semantic/test_matcher.py",
    "core/cache/store.py": "flows/test_caching.py, field_failures/test_cache.py",
    "core/call.py": "gateway/test_pipeline.py",
    "core/errors.py": "house/test_docs.py, field_failures/test_formats.py",
    "core/formats/anthropic/event_relay.py": "core/formats/test_translations.py, vendors/test_matrix.py",
    "core/formats/anthropic/inbound.py": "core/formats/test_translations.py, vendors/test_matrix.py",
    "core/formats/anthropic/outbound.py": "core/formats/test_translations.py, vendors/test_matrix.py",
    "core/formats/anthropic/relay.py": "field_failures/test_k4_silent_loss.py, translation/test_field_lists.py",
    "core/formats/anthropic/request_reader.py": "translation/test_field_lists.py",
    "core/formats/anthropic/request_writer.py": "translation/test_field_lists.py",
    "core/formats/canonical.py": "core/formats/test_translations.py, vendors/test_matrix.py",
    "core/formats/compaction.py": "field_failures/test_k6_responses.py",
    "core/formats/encrypted_content.py": "field_failures/test_k6_responses.py",
    "core/formats/continuation.py": "flows/test_failover.py",
    "core/formats/dialect.py": "core/formats/test_translations.py, vendors/test_matrix.py",
    "core/formats/forced_calls.py": "field_failures/test_k6_engine.py",
    "core/formats/formats.py": "core/formats/test_translations.py, vendors/test_matrix.py",
    "core/formats/json_body.py": "field_failures/test_k4_silent_loss.py, translation/test_field_lists.py",
    "core/formats/lenient_json.py": "field_failures/test_k2_tolerance.py",
    "core/formats/message_bridge.py": "field_failures/test_k1_messages.py, translation/test_conversations.py",
    "core/formats/message_rules.py": "field_failures/test_k1_messages.py, translation/test_conversations.py",
    "core/formats/normalization.py": "core/formats/test_translations.py, vendors/test_matrix.py",
    "core/formats/openai_responses.py": "core/formats/test_translations.py, vendors/test_matrix.py",
    "core/formats/parameter_bridge.py": "field_failures/test_k1_messages.py, translation/test_conversations.py",
    "core/formats/request_checks.py": "field_failures/test_k6_clients.py",
    "core/formats/response_echo.py": "field_failures/test_k6_responses.py",
    "core/formats/responses_reader.py": "field_failures/test_k4_silent_loss.py, translation/test_field_lists.py",
    "core/formats/stored_responses.py": "field_failures/test_k6_responses.py",
    "core/formats/stream_aggregation.py": "core/formats/test_translations.py, vendors/test_matrix.py",
    "core/formats/think_tags.py": "field_failures/test_k5_variants.py",
    "core/formats/thinking.py": "field_failures/test_k1_messages.py, translation/test_conversations.py",
    "core/formats/tool_bridge.py": "field_failures/test_k4_silent_loss.py, translation/test_field_lists.py",
    "core/formats/tool_calls.py": "field_failures/test_k3_tool_calls.py",
    "core/formats/translation_changes.py": "field_failures/test_k4_silent_loss.py, translation/test_field_lists.py",
    "core/ports.py": "gateway/test_pipeline.py",
    "core/pricing/calendar.py": "core/pricing/test_catalog.py",
    "core/routing/admission.py": "core/test_routing.py",
    "core/routing/health.py": "core/test_routing.py",
    "core/routing/regions.py": "core/test_routing.py",
    "core/routing/request_batching.py": "core/test_routing.py",
    "core/routing/selection.py": "core/test_routing.py",
    "core/routing/virtual_models.py": "core/test_routing.py",
    "core/snapshot/cache_rules.py": "flows/test_caching.py",
    "core/snapshot/routing_policy.py": "core/test_routing.py",
    "core/snapshot/virtual_models.py": "core/test_routing.py",
    "engine/chat.py": "e2e/test_platform.py",
    "engine/embedder.py": "e2e/test_platform.py",
    "gateway/api/app.py": "flows/test_calls.py",
    "gateway/api/cors.py": "field_failures/test_k6_clients.py",
    "gateway/api/models.py": "field_failures/test_k6_clients.py",
    "gateway/api/openapi.py": "field_failures/test_k6_clients.py",
    "gateway/api/paths.py": "field_failures/test_k6_clients.py",
    "gateway/api/response_writer.py": "flows/test_calls.py",
    "gateway/cache/lookup.py": "flows/test_caching.py",
    "gateway/cache/replay.py": "flows/test_caching.py",
    "gateway/cache/semantic_client.py": "flows/test_meaning.py",
    "gateway/conversation_state.py": "flows/test_responses.py",
    "gateway/dispatch/attempt.py": "flows/test_failover.py, flows/test_routing.py",
    "gateway/dispatch/health_events.py": "flows/test_failover.py, flows/test_routing.py",
    "gateway/dispatch/race.py": "flows/test_failover.py, flows/test_routing.py",
    "gateway/dispatch/router.py": "flows/test_failover.py, flows/test_routing.py",
    "gateway/dispatch/wait_queue.py": "flows/test_failover.py, flows/test_routing.py",
    "infra/config/declared.py": "infra/test_settings.py",
    "infra/config/groups.py": "infra/test_settings.py",
    "infra/config/loading.py": "infra/test_settings.py",
    "infra/config/renamed.py": "infra/test_settings.py",
    "infra/control_channel/client.py": "e2e/test_durability.py",
    "infra/control_channel/response_store.py": "flows/test_responses.py",
    "infra/control_channel/kept_snapshot.py": "security/test_signed_channel.py",
    "infra/control_channel/protocol.py": "security/test_signed_channel.py",
    "infra/control_channel/signatures.py": "security/test_signed_channel.py",
    "infra/control_channel/signed_client.py": "security/test_signed_channel.py",
    "infra/database/engine.py": "infra/test_migrations.py, infra/test_moving.py",
    "infra/database/paging.py": "infra/test_migrations.py, infra/test_moving.py",
    "infra/database/transfer.py": "infra/test_migrations.py, infra/test_moving.py",
    "infra/egress.py": "control/observability/test_alert_targets.py, providers/test_images.py",
    "infra/migrations/env.py": "infra/test_migrations.py",
    "infra/migrations/versions/0001_first_tables.py": "infra/test_migrations.py",
    "infra/migrations/versions/0002_token_classes_and_responses.py": "infra/test_migrations.py",
    "infra/migrations/versions/0003_tenants_and_money.py": "infra/test_migrations.py",
    "infra/migrations/versions/0004_daily_sums_and_balances.py": "infra/test_migrations.py",
    "infra/migrations/versions/0005_cache.py": "infra/test_migrations.py",
    "infra/migrations/versions/0006_cache_insight.py": "infra/test_migrations.py",
    "infra/migrations/versions/0007_standard_names.py": "infra/test_migrations.py",
    "infra/migrations/versions/0008_platform_costs.py": "infra/test_migrations.py",
    "infra/migrations/versions/0009_platform_ownership.py": "infra/test_migrations.py",
    "infra/migrations/versions/0010_sign_in.py": "infra/test_migrations.py",
    "infra/migrations/versions/0011_lease_streams.py": "infra/test_migrations.py",
    "infra/parquet.py": "control/api/test_usage.py",
    "infra/redis/cache.py": "field_failures/test_limits.py, field_failures/test_cache_modes.py",
    "infra/redis/connection.py": "field_failures/test_limits.py, field_failures/test_cache_modes.py",
    "infra/redis/pubsub.py": "field_failures/test_limits.py, field_failures/test_cache_modes.py",
    "infra/redis/rate_limits.py": "field_failures/test_limits.py, field_failures/test_cache_modes.py",
    "infra/redis/vector_index.py": "semantic/test_matcher.py",
    "infra/security/prescribed.py": "field_failures/test_secrets.py",
    "infra/security/secrets.py": "field_failures/test_secrets.py",
    "infra/telemetry.py": "flows/test_calls.py",
    "providers/access_tokens.py": "providers/test_auth.py",
    "providers/alibaba.py": "vendors/test_matrix.py",
    "providers/anthropic.py": "vendors/test_matrix.py",
    "providers/error_mapping.py": "vendors/test_matrix.py",
    "providers/openai_compat/body_decoding.py": "field_failures/test_k2_tolerance.py",
    "providers/openai_compat/embeddings.py": "field_failures/test_k5_variants.py",
    "providers/openai_compat/failures.py": "vendors/test_matrix.py, flows/test_calls.py",
    "providers/openai_compat/fan_out.py": "vendors/test_matrix.py, flows/test_calls.py",
    "providers/openai_compat/replies.py": "vendors/test_matrix.py, flows/test_calls.py",
    "providers/openai_compat/stream_collector.py": "vendors/test_matrix.py, flows/test_calls.py",
    "providers/openai_compat/streams.py": "vendors/test_matrix.py, flows/test_calls.py",
    "providers/openai_compat/targets.py": "vendors/test_matrix.py, flows/test_calls.py",
    "providers/openai_compat/upstreams.py": "vendors/test_matrix.py, flows/test_calls.py",
    "providers/schema_check.py": "vendors/test_matrix.py",
    "providers/tencent.py": "vendors/test_matrix.py",
    "providers/vendor_profile.py": "vendors/test_matrix.py",
    "providers/vendor_table.py": "vendors/test_matrix.py",
    "semantic/embedders.py": "semantic/test_matcher.py",
    "semantic/index.py": "semantic/test_matcher.py",
    "semantic/lexicon.py": "semantic/test_guards.py",
    "semantic/service.py": "flows/test_meaning.py",
    "semantic/synthetic_questions.py": "semantic/test_evaluation.py",
    "semantic/text_facts.py": "semantic/test_guards.py",
    "semantic/verifier.py": "semantic/test_matcher.py",
    "simulation/clock.py": "simulation/test_world.py",
    "simulation/policies.py": "simulation/test_world.py",
    "wire/chunked.py": "wire/test_framing.py, wire/test_server.py",
    "wire/exchange.py": "wire/test_server.py",
    "wire/proxy_tunnel.py": "wire/test_client.py",
    "wire/resolver.py": "wire/test_client.py",
    "wiring/control.py": "e2e/test_platform.py",
    "wiring/engine.py": "e2e/test_platform.py",
    "wiring/gateway.py": "e2e/test_platform.py",
    "wiring/semantic.py": "e2e/test_platform.py",
}


def _mirrored() -> set[str]:
    """Modules with a test file of their name below the same first folder."""
    found: dict[str, set[str]] = {}
    for path in TESTS.rglob("test_*.py"):
        top = path.relative_to(TESTS).parts[0]
        found.setdefault(top, set()).add(path.stem.removeprefix("test_"))
    return {
        name_of(path)
        for path in modules()
        if path.stem in found.get(name_of(path).partition("/")[0], set())
    }


def test_each_module_has_a_test_of_its_name_or_a_reason() -> None:
    named = {name_of(path) for path in modules() if not path.stem.startswith("__")}
    without = named - _mirrored()
    assert without - ELSEWHERE.keys() == set()
    assert ELSEWHERE.keys() - without == set(), "it has a test now, or is gone: take it off"


def test_each_reason_names_tests_that_exist() -> None:
    for name, reason in ELSEWHERE.items():
        files = re.findall(r"[\w/]+\.py", reason)
        assert files or reason == DECLARATIONS, name
        assert not [file for file in files if not (TESTS / file).exists()], name
