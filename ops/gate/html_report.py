"""The stages as an HTML page: self-contained, for phones and for print, with a light and a dark theme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from ops import timeline_chart
from ops.gate import alarm_table
from ops.gate.benchmarks import Bench, Figure
from ops.gate.evidence import OF_THE_SITE, facts_of, images_of, sites_of, tools_of
from ops.gate.image_sets import HERMETIC, UPSTREAM
from ops.model import Case, Verdict


def page_from(
    verdicts: Sequence[Verdict],
    tree: str,
    commit: str,
    changed_files: Sequence[str],
    made: datetime,
    benches: Sequence[Bench] = (),
) -> str:
    """Return the page as HTML. ``benches`` are benchmark results of this or another tree; the page names the tree."""
    longest = max((_seconds(verdict) for verdict in verdicts), default=0.0)
    proven = sum(verdict.proven for verdict in verdicts)
    return _template("page").substitute(
        title=escape(_headline(proven, len(verdicts))),
        state="proven" if proven == len(verdicts) else "unproven",
        tests=sum(len(verdict.cases) for verdict in verdicts),
        minutes=_duration(sum(_seconds(verdict) for verdict in verdicts)),
        tree=escape(tree),
        commit=escape(commit),
        warning=_warning(changed_files),
        chain="".join(_chain_item(verdict, longest) for verdict in verdicts),
        stages="".join(_section(verdict) for verdict in verdicts),
        images=_images(verdicts),
        tools=_tools(verdicts),
        courses=_timelines(verdicts) + alarm_table.to_html(case for verdict in verdicts for case in verdict.cases),
        figures=_figures(benches, tree),
        made=f"{made:%Y-%m-%d %H:%M} UTC",
    )


def sentence_from(name: str) -> str:
    """Return a test's name as a sentence: ``a.b::test_a_push_comes_back[x]`` gives "A push comes back (x)"."""
    words, bracket, parameters = name.rsplit("::", 1)[-1].partition("[")
    sentence = words.removeprefix("test_").replace("_s_", "'s ").replace("_", " ").strip()
    return sentence[:1].upper() + sentence[1:] + (f" ({parameters.rstrip(']')})" if bracket else "")


def _template(name: str) -> Template:
    return Template(files("ops").joinpath("templates", f"{name}.html").read_text(encoding="utf-8"))


def _headline(proven: int, stages: int) -> str:
    return "Every stage is proven" if proven == stages else f"{proven} of {stages} stages are proven"


def _seconds(verdict: Verdict) -> float:
    started, finished = (facts_of(verdict.statement).get(key) for key in ("started", "finished"))
    if not (started and finished):
        return 0.0
    return (datetime.fromisoformat(finished) - datetime.fromisoformat(started)).total_seconds()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    return f"{minutes} min {rest:02d} s" if rest else f"{minutes} min"


def _warning(changed_files: Sequence[str]) -> str:
    if not changed_files:
        return ""
    count = len(changed_files)
    differ = "1 file differs" if count == 1 else f"{count} files differ"
    return f'<p class="warning">{differ} from this commit. The evidence does not cover these changes.</p>'


def _chain_item(verdict: Verdict, longest: float) -> str:
    seconds = _seconds(verdict)
    return _template("link").substitute(
        state="proven" if verdict.proven else "unproven",
        stage=escape(verdict.stage),
        word="proven" if verdict.proven else "not proven",
        reason=escape(verdict.reason),
        width=round(100 * seconds / longest, 1) if longest else 0,
        duration=_duration(seconds) if seconds else "&ndash;",
    )


def _section(verdict: Verdict) -> str:
    ordered = sorted(verdict.cases, key=lambda case: (case.outcome == "passed", -case.seconds))
    top = max((case.seconds for case in ordered), default=0.0)
    return _template("stage").substitute(
        stage=escape(verdict.stage),
        reason=escape(verdict.reason),
        remedy=f"<code>{escape(verdict.remedy)}</code>" if verdict.remedy else "",
        started=_moment(facts_of(verdict.statement).get("started", "")),
        sites="".join(f"site {escape(name)}" for name in sites_of(verdict.statement)),
        cases="".join(_case(case, top) for case in ordered),
        opened="open" if not verdict.proven or 0 < len(ordered) <= 12 else "",
    )


def _moment(text: str) -> str:
    return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M} UTC" if text else ""


def _case(case: Case, longest: float) -> str:
    share = round(case.seconds / longest, 3) if longest else 0
    return (
        f"<tr><td>{_mark(case)}{escape(sentence_from(case.name))}</td>"
        f'<td class="time"><span class="bar" style="--share:{share}"></span><span>{case.seconds:.2f} s</span></td></tr>'
    )


def _mark(case: Case) -> str:
    return "" if case.outcome == "passed" else f'<span class="chip bad">{escape(case.outcome)}</span> '


def _images(verdicts: Sequence[Verdict]) -> str:
    sets = {facts.get("image_set", ""): facts for facts in (facts_of(verdict.statement) for verdict in verdicts)}
    images = {name: digest for verdict in verdicts for name, digest in images_of(verdict.statement).items()}
    if not images:
        return "<p>No stage has evidence about images yet.</p>"
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td><code>{escape(digest)}</code></td></tr>"
        for name, digest in sorted(images.items())
    )
    notes = "".join(f"<p>{_SETS[each]}{_why(sets[each])}</p>" for each in _SETS if each in sets)
    return f"{notes}<table>{rows}</table>"


def _why(facts: Mapping[str, Any]) -> str:
    reason = facts.get("image_set_reason", "")
    return f" Reason: {escape(reason)}." if reason else ""


def _tools(verdicts: Sequence[Verdict]) -> str:
    tools = {name: version for verdict in verdicts for name, version in tools_of(verdict.statement).items()}
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(version)}</td></tr>" for name, version in sorted(tools.items())
    )
    return f"<table>{rows}</table>" if rows else "<p>No stage has evidence about tools yet.</p>"


def _timelines(verdicts: Sequence[Verdict]) -> str:
    """The timelines that tests recorded, from the JUnit files of the evidence."""
    cases = [case for verdict in verdicts for case in verdict.cases if timeline_chart.PROPERTY in case.properties]
    drawn = "".join(_timeline(case) for case in cases if case.outcome == "passed")
    return f"<h2>Duration of each step</h2>{drawn}" if drawn else ""


def _timeline(case: Case) -> str:
    try:
        chart = timeline_chart.chart_from_json(case.properties[timeline_chart.PROPERTY])
    except ValueError:
        return ""
    measured = f"<figcaption>Measured by: {escape(sentence_from(case.name))}.</figcaption>"
    return f"<figure><strong>{escape(chart.title)}</strong>{timeline_chart.to_svg(chart)}{measured}</figure>"


def _figures(benches: Sequence[Bench], tree: str) -> str:
    measured = "".join(_bench(bench, tree) for bench in benches)
    return f"<h2>Benchmarks</h2>{measured}" if measured else ""


def _bench(bench: Bench, tree: str) -> str:
    which = "this tree" if bench.tree == tree else f"another tree, <code>{escape(bench.tree[:12])}</code>"
    rows = "".join(_measured(figure) for figure in bench.figures)
    return (
        f'<div class="wide"><p class="lead">{escape(bench.name)}: measured {bench.when:%Y-%m-%d %H:%M} UTC on {which} with '
        "<code>./noxw -s bench</code>, each figure and its alternative in the same run.</p>"
        '<table class="figures"><thead><tr><th>figure</th><th>measured</th><th>ratio</th><th>target</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _measured(figure: Figure) -> str:
    chip = ""
    if figure.target:
        chip = '<span class="chip">met</span>' if figure.met else '<span class="chip bad">missed</span>'
    ratio = "" if figure.ratio is None else f"{figure.ratio:.3g}"
    against = f"<small>against {escape(figure.against)}</small>" if figure.against else ""
    return (
        f"<tr><td>{escape(figure.what)}</td><td>{escape(figure.measured)}{against}</td>"
        f'<td class="ratio">{ratio}</td><td>{escape(figure.target)} {chip}</td></tr>'
    )


_SETS = {
    UPSTREAM: "The <strong>upstream</strong> image set: the pinned images as their publishers release them.",
    HERMETIC: "The <strong>hermetic</strong> image set: images built on this machine from Debian packages, with a stand-in for "
    "Gitea, instead of the upstream images.",
    OF_THE_SITE: "The <strong>site&rsquo;s own</strong> image set: the pinned images from the registry of an external site.",
}
