"""Real processes and sockets: the verdicts are the lab's, and the ledger is what vendors counted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.translation.client_shapes import CLIENTS
from tests.translation.lab import Lab
from tests.translation.test_clients import VENDORS, Problem, converse
from tests.translation.wired import Wired
from tests.waiting import until


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wired]:
    made = Wired(tmp_path_factory.mktemp("wired"))
    yield made
    made.close()


# Each client meets some vendors, each vendor some clients; all of them meet in `test_clients`.
SAMPLE = [
    (client, VENDORS[(number * 3 + step) % len(VENDORS)], bool((number + step) % 2))
    for number, client in enumerate(CLIENTS)
    for step in (0, 7)
]


@pytest.mark.timeout(180)
def test_conversations_over_sockets_end_as_in_the_lab_and_the_ledger_is_what_vendors_counted(
    shared_lab: Lab, wired: Wired
) -> None:
    shared_lab.fresh()
    for client, vendor, streamed in SAMPLE:
        verdicts = []
        for place in (shared_lab, wired):
            try:
                converse(place, client, vendor, streamed)  # type: ignore[arg-type]
                verdicts.append("fine")
            except Problem as problem:
                verdicts.append(str(problem)[:60])
        assert verdicts[0] == verdicts[1], (client.label, vendor, streamed)
    counted = {name: tally for name, tally in wired.tallied.items() if any(tally)}

    def ledger() -> dict[str, list[int]]:
        rows = wired.stack.rows(
            "select upstream, sum(prompt_tokens) as prompt, sum(completion_tokens) as completion "
            "from ledger where outcome = 'ok' group by upstream"
        )
        return {row["upstream"]: [row["prompt"], row["completion"]] for row in rows}

    until(lambda: ledger() == counted)
    owed = wired.stack.rows("select * from ledger where outcome <> 'ok'")
    assert all(not row["charge_pico"] for row in owed), "a failed call is charged"
