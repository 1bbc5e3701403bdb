"""Response cache commands: statistics, flushing, warming, evaluation."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import typer
from rich.progress import Progress

from tokenschain.cli import plots as plotting
from tokenschain.cli import tables
from tokenschain.cli.admin import call
from tokenschain.cli.admin_client import AdminError, check_tenant
from tokenschain.cli.language import told
from tokenschain.cli.output import console, errors, table
from tokenschain.cli.tables import Format, Output
from tokenschain.core.cache import warming
from tokenschain.core.cache.semantic_protocol import (
    PAIR_BYTES_MAX,
    PAIRS_MAX,
    QUESTION_CHARACTERS_MAX,
    pair_bytes,
)
from tokenschain.infra import config

Tenant = Annotated[str | None, typer.Option(help="Tenant.")]
Days = Annotated[int, typer.Option(min=1, help="How far back.")]
cache = typer.Typer(no_args_is_help=True, help="Response cache: figures, flushing, evaluation.")
PAIR_SETS = ("fow_pairs", "guardpairs", "pawsx_zh")
TRAPS_MAX = (0.02, 0.05)


_STATS_COLUMNS = ("tenant", "model", "cache", "reason", "calls", "saved_tokens", "saved_pico")


@cache.command("stats")
def stats(
    tenant: Tenant = None,
    days: Days = 1,
    output_format: Output = Format.TABLE,
) -> None:
    """Show hits, misses and savings of the cache, by tenant, model and outcome."""
    tables.show(_found("stats", tenant, days), _STATS_COLUMNS, output_format)


_AGE_COLUMNS = ("age up to", "hits", "share of hits kept by that ttl")


@cache.command("hit-ages")
def hit_ages(
    tenant: Tenant = None,
    model: Annotated[str | None, typer.Option(help="Model.")] = None,
    days: Days = 7,
    output_format: Output = Format.TABLE,
) -> None:
    """Age of cached responses when they were served: what another ttl_s would keep."""
    rows = _found("hit-ages", tenant, days, model=model)
    columns: tuple[str, ...] = ("age_s_max", "hits", "share_within")
    if output_format in (Format.TABLE, Format.WIDE):
        columns = _AGE_COLUMNS
        shares = [row["share_within"] for row in rows]
        bars = [f"{share:7.1%} {'█' * round(share * _BAR)}" for share in shares]
        rows = [
            dict(zip(columns, (_span(row["age_s_max"]), row["hits"], bar), strict=True))
            for row, bar in zip(rows, bars, strict=True)
        ]
    tables.show(rows, columns, output_format)


_CHOICE_COLUMNS = ("at most", "threshold", "false hits", "semantic hits", "saved_pico")


@cache.command("threshold-preview")
def threshold_preview(
    tenant: Tenant = None,
    days: Days = 1,
    output_format: Output = Format.TABLE,
) -> None:
    """Show the measured false-hit rate, and what another limit would have given."""
    found = _found("threshold-preview", tenant, days)
    if output_format not in (Format.TABLE, Format.WIDE):
        tables.show(found, (), output_format)
        return
    if not found:
        errors.print(told("no semantic look-ups yet"))
    for one in found:
        console.print(
            f"{one['tenant']}/{one['project']} {one['model']}: "
            + told(
                "false hits {rate:.2%} ({low:.2%} to {high:.2%}, {checked:,} checked), at most "
                "{most:.1%} wanted; {exact:,} exact hits, {lookups:,} compared",
                rate=one["false_hit_rate"], low=one["false_hit_rate_low"],
                high=one["false_hit_rate_high"], checked=one["checked"],
                most=one["false_hit_rate_max"], exact=one["exact_hits"], lookups=one["lookups"],
            ),
            highlight=False, markup=False,
        )  # fmt: skip
        if one["pairs"] < one["pairs_needed"]:
            console.print(_progress(one), highlight=False, markup=False)
        rows = [
            {
                "at most": f"{choice['false_hit_rate_max']:.1%}",
                "threshold": told("never")
                if choice["threshold"] is None
                else f"{choice['threshold']:.3f}",
                "false hits": f"{choice['false_hit_rate']:.2%}",
                "semantic hits": choice["hits"],
                "saved_pico": choice["saved_pico"],
            }
            for choice in one["choices"]
        ]
        tables.show(rows, _CHOICE_COLUMNS, output_format)


def _progress(found: dict[str, Any]) -> str:
    return told(
        "learning: {pairs:,} of {needed:,} pairs of questions compared; until then no question "
        "is answered by meaning",
        pairs=found["pairs"], needed=found["pairs_needed"],
    )  # fmt: skip


@cache.command("learn")
def learn(
    model: Annotated[str, typer.Option(help="Model.")],
    pairs: Annotated[
        Path | None,
        typer.Option(help='Lines of JSON, as {"a": ..., "b": ..., "y": 0 or 1}.', exists=True),
    ] = None,
    faq: Annotated[
        Path | None,
        typer.Option(
            help='An FAQ, as lines of JSON: {"questions": [...]}, the ways to ask each.',
            exists=True,
        ),
    ] = None,
    tenant: Annotated[str, typer.Option(help="Tenant.")] = "default",
    project: Annotated[str, typer.Option(help="Project.")] = "default",
) -> None:
    """Teach the semantic cache from pairs of questions or an FAQ, so that it serves from the start.

    `y` is 1 where one answer is right for both questions, and 0 where it is not. Of an FAQ, the
    ways to ask one thing are right for each other, and its most alike entries are not. A file with
    a bad line is refused as a whole.
    """
    if (pairs is None) == (faq is None):
        raise AdminError(told("name either --pairs or --faq"))
    rows = _pairs_of_faq(faq) if faq is not None else _pairs_in(pairs)  # type: ignore[arg-type]
    learned = unlike = 0
    found: dict[str, Any] = {}
    with Progress(console=errors, transient=True) as progress:
        task = progress.add_task("learning", total=len(rows))
        for some in _pieces(rows):
            body = {"tenant": tenant, "project": project, "model": model, "pairs": some}
            found = call("POST", "/api/v1/cache/pairs", body)
            learned, unlike = learned + found["learned"], unlike + found["unlike"]
            progress.advance(task, len(some))
    said = told(
        "learned from {learned:,} pairs; {unlike:,} are so unlike that they would never be "
        "compared",
        learned=learned, unlike=unlike,
    )  # fmt: skip
    console.print(said, highlight=False, markup=False)
    if found["pairs"] < found["pairs_needed"]:
        said = _progress(found)
    elif found["threshold"] is None:
        said = told("no question is answered by meaning: too many pairs are wrong at any threshold")
    else:
        said = told("questions are answered by meaning from a confidence of {threshold:.3f}",
                    threshold=found["threshold"])  # fmt: skip
    console.print(said, highlight=False, markup=False)


_PAIRS_OF_FILE_MAX = 10_000
_BAD_LINES_SHOWN = 20


def _pieces(rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The pairs by as many as are learned at once."""
    some: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        more = pair_bytes(row["a"], row["b"])
        if some and (len(some) >= PAIRS_MAX or size + more > PAIR_BYTES_MAX):
            yield some
            some, size = [], 0
        some.append(row)
        size += more
    yield some


def _pairs_in(path: Path) -> list[dict[str, Any]]:
    """The pairs of a file."""
    rows = _rows_in(path, _fault_of, told("more than {most:,} pairs", most=_PAIRS_OF_FILE_MAX))
    if not rows:
        raise AdminError(told("there are no pairs in {file}", file=path))
    return [{"a": row["a"], "b": row["b"], "y": row["y"]} for row in rows]


def _pairs_of_faq(path: Path) -> list[dict[str, Any]]:
    """Pairs made of the entries of an FAQ."""
    from tokenschain.semantic import faq_seed  # noqa: PLC0415 - gateways do without

    rows = _rows_in(path, _fault_of_entry, told("more than {most:,} entries",
                                                most=faq_seed.ENTRIES_MAX),
                    faq_seed.ENTRIES_MAX)  # fmt: skip
    if len(rows) < _ENTRIES_MIN:
        raise AdminError(told("an FAQ of at least {least} entries is needed: {file}",
                              least=_ENTRIES_MIN, file=path))  # fmt: skip
    made = faq_seed.pairs_of([row["questions"] for row in rows])
    return [{"a": a, "b": b, "y": int(same)} for a, b, same in made]


_ENTRIES_MIN = 2


def _rows_in(
    path: Path, fault_of: Callable[[Any], str], too_many: str, most: int = _PAIRS_OF_FILE_MAX
) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines; one with bad lines is refused, and they are named."""
    rows: list[dict[str, Any]] = []
    bad: list[str] = []
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            why = too_many if len(rows) >= most else fault_of(row)
            if why:
                bad.append(f"{path}:{number}: {why}")
            elif not bad:
                rows.append(row)
            if len(bad) > _BAD_LINES_SHOWN:
                break
    for said in bad[:_BAD_LINES_SHOWN]:
        errors.print(said, highlight=False, markup=False, soft_wrap=True)
    if bad:
        raise AdminError(told("nothing was learned: correct these lines first"))
    return rows


def _fault_of_entry(row: Any) -> str:
    """Why a line is no entry of an FAQ."""
    ways = row.get("questions") if isinstance(row, dict) else None
    if not isinstance(ways, list) or not ways:
        return told('no JSON object, as {"questions": ["...", "..."]}')
    for text in ways:
        if not isinstance(text, str) or not 0 < len(text.strip()) <= QUESTION_CHARACTERS_MAX:
            return told("`{name}` is no text of 1 to {most:,} characters",
                        name="questions", most=QUESTION_CHARACTERS_MAX)  # fmt: skip
    return ""


def _fault_of(row: Any) -> str:
    """Why a line is no pair."""
    if not isinstance(row, dict):
        return told('no JSON object, as {"a": ..., "b": ..., "y": 0 or 1}')
    for name in ("a", "b"):
        text = row.get(name)
        if not isinstance(text, str) or not 0 < len(text) <= QUESTION_CHARACTERS_MAX:
            return told("`{name}` is no text of 1 to {most:,} characters",
                        name=name, most=QUESTION_CHARACTERS_MAX)  # fmt: skip
    if type(row.get("y")) is not int or row["y"] not in (0, 1):
        return told("`y` is neither 0 nor 1")
    return ""


_CLUSTER_COLUMNS = ("lookups", "misses", "saved_pico", "query", "answer", "model")


@cache.command("query-clusters")
def query_clusters(
    tenant: Annotated[str, typer.Option(help="Tenant.")],
    days: Days = 7,
    limit: Annotated[int, typer.Option(min=1, max=200, help="At most so many.")] = 20,
    out: Annotated[
        Path | None, typer.Option(help="File for one question of each, as `cache warm` reads it.")
    ] = None,
    output_format: Output = Format.TABLE,
) -> None:
    """Show frequent questions, their wordings, and what answering them once saves."""
    found = _found("query-clusters", tenant, days, limit=str(limit))
    rows = found
    if output_format in (Format.TABLE, Format.WIDE):
        rows = [row | {"query": _wordings(row["queries"])} for row in found]
    tables.show(rows, _CLUSTER_COLUMNS, output_format)
    if out is not None:
        lines = [" ".join(row["queries"][0].split()) for row in found]
        out.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        said = told("{count} questions in {file}: `tokenschain cache warm {file}`",
                    count=len(lines), file=out)  # fmt: skip
        errors.print(said, highlight=False, markup=False, soft_wrap=True)


def _wordings(queries: list[str]) -> str:
    more = len(queries) - 1
    return queries[0] + (told("  (+{count} ways)", count=more) if more else "")


_BAR = 30


def _found(what: str, tenant: str | None, days: int, **more: str | None) -> list[dict[str, Any]]:
    """What the cache's part of the admin API tells of the last days."""
    given = {"from_s": str(int(time.time()) - days * 86_400), "tenant": tenant, **more}
    query = {name: value for name, value in given.items() if value is not None}
    rows: list[dict[str, Any]] = call("GET", f"/api/v1/cache/{what}", query=query)["data"]
    if not rows:
        check_tenant(config.load(), tenant)
    return rows


def _span(seconds: int) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


@cache.command("flush")
def flush(
    tenant: Annotated[str, typer.Option(help="Empty: all tenants.")] = "",
    project: Annotated[str, typer.Option(help="Project.")] = "",
    model: Annotated[str, typer.Option(help="Model.")] = "",
    tag: Annotated[str, typer.Option(help="As name=value.")] = "",
    entry: Annotated[str, typer.Option(help="The x-tc-cache-key of an answer.")] = "",
    dry_run: Annotated[bool, typer.Option(help="Only say what it is worth.")] = False,
) -> None:
    """Drop cached answers."""
    body = {"tenant": tenant, "project": project, "model": model, "tag": tag, "entry": entry,
            "dry_run": dry_run}  # fmt: skip
    found = call("POST", "/api/v1/cache/flush", body)
    hits, answers = found["hits_last_day"], found["answers_last_day"]
    console.print(
        told(
            "would drop cached responses that were served {hits:,} times in the last day "
            "({answers:,} of them)",
            hits=hits, answers=answers,
        )
        if dry_run
        else told(
            "dropped cached responses that were served {hits:,} times in the last day "
            "({answers:,} of them)",
            hits=hits, answers=answers,
        ),
        highlight=False,
    )  # fmt: skip


@cache.command("warm")
def warm(
    file: Annotated[
        Path,
        typer.Argument(
            help="Lines of questions, of JSON chat requests, or of an FAQ's entries.", exists=True
        ),
    ],
    model: Annotated[str, typer.Option(help="For lines that name none.")],
    key: Annotated[str, typer.Option(envvar="TC_API_KEY", help="Whose cache is warmed.")],
    system: Annotated[str, typer.Option(help="System prompt of plain questions.")] = "",
    at_once: Annotated[int, typer.Option(min=1, max=64, help="Calls in flight.")] = 4,
) -> None:
    """Warm the cache: send questions beforehand, as bulk calls.

    A plain question is sent as one user turn; the answer is found by callers whose requests are
    the same in everything that counts, the system prompt above all.
    """
    from tokenschain.cli.chat_client import (  # noqa: PLC0415 - gateways do without
        ChatClient,
        ChatError,
    )

    bodies = [
        _request(line, model, system) for line in file.read_text("utf-8").splitlines() if line
    ]
    url = config.load().gateway_base_url
    outcomes: Counter[str] = Counter()
    with (
        ChatClient(url, key) as client,
        Progress(console=errors, transient=True) as progress,
        ThreadPoolExecutor(at_once) as pool,
    ):
        task = progress.add_task("warming", total=len(bodies))
        waits = [pool.submit(client.ask, body, {"x-tc-priority": "bulk"}) for body in bodies]
        for wait in as_completed(waits):
            try:
                outcomes[wait.result()] += 1
            except ChatError as error:
                outcomes[f"failed: {error}"] += 1
            progress.advance(task)
    for outcome, count in outcomes.most_common():
        said = told(_WARMED.get(outcome, outcome))
        console.print(f"{count:,} {said}", highlight=False, markup=False)
    if any(outcome.startswith("failed") for outcome in outcomes):
        raise typer.Exit(1)


_WARMED = {"miss": "answered and kept, if they may be", "hit-exact": "were there already",
           "hit-semantic": "were there in other words"}  # fmt: skip


def _request(line: str, model: str, system: str) -> dict[str, Any]:
    try:
        return warming.request_of(line, model, system)
    except ValueError as error:
        raise typer.BadParameter(f"{error}: {line[:80]}") from None


@cache.command("evaluate")
def evaluate(
    data: Annotated[
        Path, typer.Option(help="A file of pairs, or a folder of pairs and intents; JSON lines.")
    ],
    streams: Annotated[bool, typer.Option(help="Run the streams, too.")] = True,
    calls: Annotated[int, typer.Option(min=500, help="Of a stream.")] = 12_000,
    seeds: Annotated[int, typer.Option(min=1, max=20, help="Runs of each stream.")] = 3,
    out: Annotated[Path | None, typer.Option(help="File for the tables, as Markdown.")] = None,
    keep: Annotated[Path | None, typer.Option(help="Folder to keep embeddings in.")] = None,
    plots: Annotated[
        Path | None, typer.Option(help="Folder for plots: ROC and calibration, as SVG.")
    ] = None,
) -> None:
    """How many questions the cache would answer, and how many of those wrongly."""
    from tokenschain.semantic import evaluation as ev  # noqa: PLC0415 - loads models
    from tokenschain.semantic.embedders import Embedders  # noqa: PLC0415
    from tokenschain.semantic.verifier import Verifier  # noqa: PLC0415

    if plots is not None:
        plotting.check_available()
    models, verifier = ev.EmbeddingCache(Embedders, keep), Verifier.shipped()
    lines: list[str] = []
    drawn: dict[str, Any] = {}
    paths = [data] if data.is_file() else [data / f"{name}.jsonl" for name in PAIR_SETS]
    if not any(path.exists() for path in paths):
        raise AdminError(f"there are no pairs at {data}: {', '.join(PAIR_SETS)} (.jsonl)")
    for path in paths:
        if not path.exists():
            errors.print(f"{path} is not there: left out", highlight=False)
            continue
        found, name = _read_pairs(path, ev), path.stem
        _embed(models, [text for pair in found.pairs for text in pair], name)
        scores = ev.score(found, models, verifier)
        _pairs(lines, found, scores, ev)
        drawn[name] = found.same, scores
    if plots is not None:
        _plots(plots, drawn, ev)
    if streams and data.is_dir():
        _streams(lines, data, models, verifier, calls, seeds, ev)
    if out is not None:
        out.write_text("\n".join(lines) + "\n", encoding="utf-8")
        errors.print(f"written to {out}", highlight=False)


def _embed(models: Any, texts: list[str], what: str) -> None:
    with Progress(console=errors, transient=True) as progress:
        task = progress.add_task(f"reading {what}", total=len(texts))
        models.need(texts, lambda n: progress.advance(task, n))


def _read_pairs(path: Path, ev: Any) -> Any:
    try:
        return ev.read_pairs(path)
    except (ValueError, KeyError, TypeError) as error:
        errors.print(f'{path}: not lines of {{"a": ..., "b": ..., "y": 0 or 1}}: {error!r}',
                     highlight=False, markup=False)  # fmt: skip
        raise typer.Exit(2) from None


def _plots(folder: Path, drawn: dict[str, Any], ev: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    said = [(name, ev.calibration(scores.ours, same)) for name, (same, scores) in drawn.items()]
    plotting.shares(
        folder / "cache-calibration.svg", said,
        "How likely a cached answer was said to be right, and how often it was",
        "said to be right", "right",
    )  # fmt: skip
    for name, (same, scores) in drawn.items():
        ways = (("cosine", scores.cosine), ("ours without guards", scores.unguarded),
                ("ours", scores.ours))  # fmt: skip
        plotting.shares(
            folder / f"cache-roc-{name}.svg",
            [(way, ev.roc(value, same)) for way, value in ways],
            f"{name}: served at every threshold", "of traps", "of those that ask the same",
        )  # fmt: skip
    errors.print(f"{len(drawn) + 1} plots in {folder}", highlight=False)


def _pairs(lines: list[str], found: Any, scores: Any, ev: Any) -> None:
    same = found.same
    _title(lines, f"{found.name}: {int(same.sum())} ask the same, {int((1 - same).sum())} do not")
    heads = ["", "served", "wrong",
             *(f"served at {w:.1%} wrong" for w in ev.FALSE_HIT_RATES)]  # fmt: skip
    rows = [
        [row.method, f"{row.served:.1%}", f"{row.traps:.1%}", *(f"{v:.1%}" for v in row.served_at)]
        for row in ev.table(found, scores)
    ]
    for most in TRAPS_MAX:
        served, traps, threshold = ev.at_traps(scores.ours, same, most)
        rows.append([f"ours, threshold for {most:.0%} of traps ({threshold:.3f})",
                     f"{served:.1%}", f"{traps:.1%}", "", "", ""])  # fmt: skip
    _show(lines, heads, rows)
    kinds = ev.by_kind(found, scores, 0.5)
    if len(kinds) > 1:
        _show(
            lines,
            ["trap", "pairs", "wrong by cosine 0.95", "wrong by ours"],
            [[k, str(n), f"{a:.0%}", f"{b:.0%}"] for k, n, a, b in kinds],
        )


def _streams(
    lines: list[str], data: Path, models: Any, verifier: Any, calls: int, seeds: int, ev: Any
) -> None:
    banking, clinc = data / "banking77.jsonl", data / "clinc150.jsonl"
    kinds: dict[str, Any] = {
        "FAQ, synthetic": lambda seed, **more: ev.faq_stream(seed, calls, **more),
        "FAQ, Chinese": lambda seed, **more: ev.chinese_faq_stream(seed, calls, **more),
    }
    if banking.exists() and clinc.exists():
        kinds["Banking77"] = lambda seed, **more: ev.intent_stream(
            banking, clinc, seed, calls, **more
        )
    _title(
        lines,
        f"streams of {calls:,} calls, bound {ev.FALSE_HIT_RATE_MAX:.0%} wrong of what is served",
    )
    heads = ["stream", "seed", "exact alone", "hits", "of an oracle's gain", "wrong of served",
             "95 % interval", "undecided", "checked"]  # fmt: skip
    rows = []
    for name, make in kinds.items():
        variants: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
            (name, {}, {}),
            (f"{name}, drifts at half", {"drifts": True}, {}),
            (f"{name}, judge errs 3 %", {}, {"comparison_error_rate": 0.03}),
            (f"{name}, pre-warmed", {}, {"warms": True}),
        ]
        for title, shape, way in variants:
            wrong = []
            for seed in range(1, seeds + 1):
                stream = make(seed, **shape)
                options = dict(way)
                if options.pop("warms", False):
                    options["warmed"] = make(seed + 100)[: calls // 6]
                asked = [*options.get("warmed", ()), *stream]
                _embed(models, [ev.normal(one.text) for one in asked], title)
                with Progress(console=errors, transient=True) as progress:
                    task = progress.add_task(f"{title}, seed {seed}", total=len(asked))
                    ran = ev.run(
                        stream, models, verifier, seed, done=partial(progress.advance, task),
                        **options,
                    )  # fmt: skip
                low, high = ran.interval
                wrong.append(ran.false_hit_rate)
                rows.append([title, str(seed), f"{ran.exact_alone / ran.calls:.1%}",
                             f"{ran.hits:.1%}", f"{ran.gained:.0%}", f"{ran.false_hit_rate:.2%}",
                             f"{low:.2%} to {high:.2%}", str(ran.undecided),
                             f"{ran.checked / ran.calls:.1%}"])  # fmt: skip
            rows.append([f"{title}: mean", "", "", "", "", f"{fmean(wrong):.2%}", "", "", ""])
    _show(lines, heads, rows)


def _title(lines: list[str], title: str) -> None:
    console.print(f"\n[bold]{title}[/bold]", highlight=False)
    lines += ["", f"### {title}", ""]


def _show(lines: list[str], heads: list[str], rows: list[list[str]]) -> None:
    shown = table(*heads)
    for row in rows:
        shown.add_row(*row)
    console.print(shown)
    lines.append("| " + " | ".join(heads) + " |")
    lines.append("|" + "---|" * len(heads))
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    lines.append("")
