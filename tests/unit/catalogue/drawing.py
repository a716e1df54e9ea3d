"""The tables of docs/catalogue.md, drawn from the files that ship."""

from collections.abc import Callable, Iterator

from finetune.catalogue import METHODS, Catalogue, DataRules, ProviderSheet
from finetune.catalogue.sheets import Model, Price
from finetune.catalogue.values import Day, Flag

_TAKES = ("tools", "parallel_tool_calls", "images", "audio", "video", "files", "weights", "row_weights")
_ORDER = ("system_first", "starts_with_user", "alternates", "ends_with_assistant")
_SIZES = (("GiB", 2**30), ("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3))
_ENDS = {
    "closed_to_new": "closed to newcomers from",
    "closed_to_inactive": "closed to the inactive from",
    "create_until": "no new jobs from",
    "serve_until": "no answers from",
    "retired": "gone, by",
}


def limits(catalogue: Catalogue) -> str:
    """What each provider takes, whatever the model."""
    head = "| Target | Method | Layout | Rows | File | A row | Roles | Takes | Does not take | Published in |"
    rows = [head, "| --- " * 10 + "|"]
    for sheet in catalogue.sheets.values():
        for method in METHODS:
            if rules := sheet.rules(method):
                cells = (sheet.title, f"`{method}`", f"`{rules.format}`", _rows(rules), _file(rules), _row(rules))
                rows.append(_line(*cells, _roles(rules), _flags(rules, True), _flags(rules, False), _links(rules)))
    return "\n".join(rows)


def models(catalogue: Catalogue) -> str:
    """Where a model differs from its provider, and until when it can be had."""
    head = "| Target | Model | `sft` | `dpo` | Longest row, tokens | Other limits of its own | Until |"
    rows = [head, "| --- " * 7 + "|"]
    for sheet in catalogue.sheets.values():
        for model in sheet.models:
            can = [_can(model.methods.of(method)) for method in METHODS]
            rows.append(_line(sheet.title, f"`{model.name}`", *can, _lengths(sheet, model), _own(model), _ends(model)))
    return "\n".join(rows)


def kinds(catalogue: Catalogue) -> str:
    """What each sheet is of: who tunes, who answers with the result, and what there is instead."""
    rows = [
        "| Sheet | Key | Kind | Models by | Tunes | Answers at | Instead | Regions | Published in |",
        "| --- " * 9 + "|",
    ]
    for sheet in catalogue.sheets.values():
        said = [each for each in (sheet.access, sheet.tunes, *sheet.served, *sheet.ways, *sheet.regions) if each]
        urls = dict.fromkeys(sheet.sources[each.source].url for each in said)
        cells = (
            sheet.title,
            f"`{sheet.provider}`",
            sheet.kind,
            sheet.access.value if sheet.access else "",
            _noted(_can(sheet.tunes), sheet.tunes.note if sheet.tunes else None),
            ", ".join(_noted(f"`{each.at}`", each.note) for each in sheet.served),
            "; ".join(_noted(each.value + (f" (`{each.at}`)" if each.at else ""), each.note) for each in sheet.ways),
            ", ".join(_noted(each.value, each.note) for each in sheet.regions),
        )
        rows.append(_line(*cells, ", ".join(_to(f"{number}", url) for number, url in enumerate(urls, 1))))
    return "\n".join(rows)


def dates(catalogue: Catalogue) -> str:
    """Until when a provider takes jobs."""
    rows = ["| Target | What | Day | Published in |", "| --- | --- | --- | --- |"]
    for sheet in catalogue.sheets.values():
        for name, says in _ENDS.items():
            if day := getattr(sheet.dates, name):
                rows.append(_line(sheet.title, says, _day(day), _link(sheet, day.source)))
    return "\n".join(rows)


def prices(catalogue: Catalogue) -> str:
    """Every price, in US dollars."""
    rows = ["| Target | Model | Per | Method | Tuning | USD | Published in |", "| --- " * 7 + "|"]
    for sheet in catalogue.sheets.values():
        for whose, each in _prices(sheet):
            per = ", ".join(filter(None, (each.per, each.deployment)))
            cells = (sheet.title, whose, per, each.method or "", each.tuning or "", str(each.usd))
            rows.append(_line(*cells, _link(sheet, each.source)))
    return "\n".join(rows)


#: Name of the part in docs/catalogue.md, and what draws it.
PARTS: list[tuple[str, Callable[[Catalogue], str]]] = [
    ("kinds", kinds),
    ("limits", limits),
    ("models", models),
    ("dates", dates),
    ("prices", prices),
]


def size(count: int) -> str:
    """`50.1 GiB`, `512 MB`: the unit in which it is shortest, and exact or cut to one place."""
    whole = next((f"{count // by} {unit}" for unit, by in _SIZES if count % by == 0 and count >= by), None)
    if whole is not None:
        return whole
    unit, by = next((one for one in _SIZES if count >= one[1]), ("bytes", 1))
    return f"{round(count / by, 1):g} {unit}"


def _rows(rules: DataRules) -> str:
    parts = [_between(rules.min_rows, rules.max_rows)]
    if rules.max_media_rows:
        parts.append(f"{rules.max_media_rows:,} with media")
    if rules.max_validation_rows:
        parts.append(f"validation to {rules.max_validation_rows:,}")
    if rules.max_trained_tokens:
        parts.append(f"{rules.max_trained_tokens:,} tokens x epochs")
    return "; ".join(filter(None, parts))


def _file(rules: DataRules) -> str:
    parts = [f"to {size(rules.max_file_bytes)}" if rules.max_file_bytes else ""]
    if rules.max_upload_bytes:
        parts.append(f"{size(rules.max_upload_bytes)} a request")
    if rules.max_validation_bytes:
        parts.append(f"validation to {size(rules.max_validation_bytes)}")
    return "; ".join(filter(None, parts))


def _row(rules: DataRules) -> str:
    parts = [
        f"{rules.max_row_tokens:,} tokens" if rules.max_row_tokens else "",
        f"{rules.max_turns} turn of the user" if rules.max_turns else "",
        f"{rules.max_answer_messages} message an answer" if rules.max_answer_messages else "",
        *(name.replace("_", " ") for name in _ORDER if getattr(rules, name)),
    ]
    return "; ".join(filter(None, parts))


def _roles(rules: DataRules) -> str:
    words = ("system", "user", "assistant", "tool")
    return ", ".join(word for word in words if rules.roles and word in rules.roles)


def _flags(rules: DataRules, value: bool) -> str:
    return ", ".join(name.replace("_", " ") for name in _TAKES if getattr(rules, name) is value)


def _links(rules: DataRules) -> str:
    return ", ".join(_to(f"{number}", url) for number, url in enumerate(dict.fromkeys(rules.sources.values()), 1))


def _noted(text: str, note: str | None) -> str:
    return f"{text} ({note})" if text and note else text


def _can(flag: Flag | None) -> str:
    return "" if flag is None else "yes" if flag.value else "no"


def _lengths(sheet: ProviderSheet, model: Model) -> str:
    found = {}
    for method in METHODS:
        rules, flag = sheet.rules(method, model.name), model.methods.of(method)
        if rules and rules.max_row_tokens and (flag is None or flag.value):
            found[method] = f"{rules.max_row_tokens:,}"
    if len(set(found.values())) == 1:
        return next(iter(found.values()))
    return ", ".join(f"{method} {length}" for method, length in found.items())


def _own(model: Model) -> str:
    parts = []
    for section in (model.data.all, *(model.data.of(method) for method in METHODS)):
        for name, claim in section:
            if claim is None or name == "max_row_tokens":
                continue
            if name == "format":
                parts.append(f"rows as `{claim}`")
                continue
            says = name.replace("_", " ").removesuffix(" bytes")
            value = (
                size(claim.value) if name.endswith("bytes") else f"{claim.value:,}" if type(claim.value) is int else ""
            )
            word = f"{says} {value}".strip() if not isinstance(claim, Flag) or claim.value else f"no {says}"
            parts.append(f"{says}: {', '.join(claim.value)}" if isinstance(claim.value, tuple) else word)
    return "; ".join(parts)


def _ends(model: Model) -> str:
    return "; ".join(f"{says} {_day(day)}" for name, says in _ENDS.items() if (day := getattr(model.dates, name)))


def _day(day: Day) -> str:
    return f"{day.value} or later" if day.at_least else f"{day.value}"


def _prices(sheet: ProviderSheet) -> Iterator[tuple[str, Price]]:
    for each in sheet.prices:
        above, up_to = (each.parameters.above, each.parameters.up_to) if each.parameters else (None, None)
        lower, upper = (f"above {_many(above)}" if above else "", f"to {_many(up_to)}" if up_to else "")
        yield " ".join(filter(None, (lower, upper))) or "all", each
    for model in sheet.models:
        for each in model.prices:
            yield f"`{model.name}`", each


def _many(count: int) -> str:
    return f"{count / 10**9:g}B"


def _between(low: int | None, high: int | None) -> str:
    if low and high:
        return f"{low:,} to {high:,}"
    return f"from {low:,}" if low else f"to {high:,}" if high else ""


def _link(sheet: ProviderSheet, source: str) -> str:
    found = sheet.sources[source]
    return _to(found.title, found.url) + (f", {found.dated}" if found.dated else f", read {found.read}")


def _to(title: str, url: str) -> str:
    return f"[{title}]({url if ':' in url else f'../{url}'})"


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
