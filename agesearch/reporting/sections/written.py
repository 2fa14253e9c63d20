"""A report's sections as JSON for programs and as Markdown to be pasted: the facts of the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from agesearch.provenance import VERSION, now, without_places
from agesearch.reporting.sections.headline import Headline
from agesearch.reporting.sections.markdown import piped, plain
from agesearch.reporting.sections.section import Section


def as_document(
    title: str, about: str, head: Headline, summary: Sequence[str], sections: Sequence[Section]
) -> dict[str, Any]:
    """The report as one JSON document, without the folders of this machine."""
    found: dict[str, Any] = without_places(
        {
            "title": title,
            "about": about,
            "headline": head.sentence,
            "figures": head.figures,
            "not_measured": head.lacking,
            "summary": list(summary),
            "sections": {section.id: section.document() for section in sections},
            "agesearch": VERSION,
            "created": now(),
        }
    )
    return found


def as_markdown(
    title: str, about: str, head: Headline, summary: Sequence[str], sections: Sequence[Section]
) -> str:
    """The report as Markdown: words and tables; charts and faces are in the page."""
    lines = [f"# {plain(title)}", "", plain(about), "", f"**{plain(head.sentence)}**", ""]
    lines += [f"- {plain(value)} {plain(unit)} ({plain(beside)})" for value, unit, beside in head.cards]
    lines += [f"- not measured: {plain(what)}" for what in head.lacking]
    for sentence in summary:
        lines += ["", plain(sentence)]
    for section in sections:
        lines += ["", f"## {plain(section.title)}", *_section(section)]
    return "\n".join(map(_shared, lines)) + "\n"


def _shared(line: str) -> str:
    text: str = without_places(line)
    return text


def _section(section: Section) -> Iterator[str]:
    if section.missing:
        filled = f" Filled by: `{section.fill}`" if section.fill else ""
        yield from ("", f"*Nothing here: {plain(section.missing).rstrip('.')}.*{filled}")
    for sentence in section.sentences:
        yield from ("", plain(sentence))
    for row in section.bars:
        yield f"- {plain(row.name)}: {row.share:.0%} ({row.low:.0%}–{row.high:.0%})"
    for table in section.tables:
        yield from ("", f"**{plain(table.title)}**", "")
        yield from piped(_headed(table.table.columns, table.table.groups), _texts(table.table.rows))
    for lines in (*section.lines, *section.more):
        yield from ("", f"**{plain(lines.title)}**", "")
        yield from piped(lines.columns, [row for rows in lines.sections for row in rows])
    if section.facts:
        yield ""
    for name, fact in section.facts:
        yield f"- **{plain(name)}**: {plain(fact)}"
    for title, code in section.code:
        yield from ("", f"**{plain(title)}**", "", "```bash", code, "```")
    for note in section.notes:
        yield from ("", plain(note))


def _headed(columns: Sequence[str], groups: Sequence[tuple[str, int]]) -> list[str]:
    """Columns with the heading that stands over them."""
    over = [name for name, count in groups for _ in range(count)] or [""] * len(columns)
    return [f"{group}: {column}" if group else column for group, column in zip(over, columns, strict=True)]


def _texts(rows: Sequence[Sequence[Any]]) -> list[list[str]]:
    return [[cell.text for cell in row] for row in rows]
