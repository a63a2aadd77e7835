"""`sukkal bench`: load a server and judge it, and compare two such runs."""

import os
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from sukkal.bench.plan import Plan
    from sukkal.bench.result import Result

_KEPT, _BROKEN, _FAILED = 0, 1, 2


@click.group()
def bench() -> None:
    """Measure any server that speaks the Messaging API v2."""


def _give_up(reason: object) -> NoReturn:
    click.echo(f"sukkal bench: {reason}", err=True)
    sys.exit(_FAILED)


@bench.command()
@click.option("--url", help="Where the server is, as http://host:port.")
@click.option("--scenario", default="produce", show_default=True, help="What is done; --list tells.")
@click.option("--list", "list_scenarios", is_flag=True, help="List the scenarios and end.")
@click.option(
    "--duration", type=click.FloatRange(0.1), default=10.0, show_default=True, help="Seconds measured."
)
@click.option(
    "--warmup", type=click.FloatRange(0), default=2.0, show_default=True, help="Seconds before, not measured."
)
@click.option(
    "--interval", type=click.FloatRange(0.05), default=1.0, show_default=True, help="Seconds of one sample."
)
@click.option(
    "--connections", type=click.IntRange(1), default=32, show_default=True, help="In all processes together."
)
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    help="Turns of the scenario per second, begun when they are due (open loop). "
    "[default: each connection begins when its last one ended]",
)
@click.option("--processes", type=click.IntRange(1), help="Of the load. [default: half the cores]")
@click.option(
    "--timeout",
    type=click.FloatRange(0.1),
    default=30.0,
    show_default=True,
    help="Seconds until a request is lost.",
)
@click.option(
    "--size",
    "sizes",
    type=click.IntRange(2, 250_000),
    multiple=True,
    help="Bytes of a body; repeat for several, used in turn. [default: an event of 120]",
)
@click.option(
    "--messages",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File with bodies, a JSON value on each line, used in turn.",
)
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Messages of a post.")
@click.option(
    "--limit", type=click.IntRange(1), default=10, show_default=True, help="Messages of a claim or page."
)
@click.option(
    "--pipeline",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="Requests under way on a WebSocket.",
)
@click.option(
    "--backlog", type=click.IntRange(0), help="Messages stored beforehand. [default: the scenario's]"
)
@click.option("--queues", type=click.IntRange(1), help="[default: the scenario's]")
@click.option("--projects", type=click.IntRange(1), help="[default: the scenario's]")
@click.option(
    "--wait", type=click.IntRange(1), default=20, show_default=True, help="Seconds a long poll waits."
)
@click.option(
    "--ttl", type=click.IntRange(60), default=3600, show_default=True, help="Seconds messages live."
)
@click.option(
    "--queue-prefix", default="bench", show_default=True, help="Queues are PREFIX-<random>-<number>."
)
@click.option("--keep", is_flag=True, help="Leave the queues.")
@click.option(
    "--auth",
    type=click.Choice(["none", "token", "keystone"]),
    default="none",
    show_default=True,
    help="How the load identifies itself.",
)
@click.option("--project", default="bench", show_default=True, help="Id of the project, without Keystone.")
@click.option("--token", envvar="OS_TOKEN", help="For --auth token. [env: OS_TOKEN]")
@click.option(
    "--os-auth-url", envvar="OS_AUTH_URL", help="For --auth keystone, like the rest. [env: OS_AUTH_URL]"
)
@click.option("--os-username", envvar="OS_USERNAME", help="[env: OS_USERNAME]")
@click.option(
    "--os-password", envvar="OS_PASSWORD", help="Better left to the environment. [env: OS_PASSWORD]"
)
@click.option("--os-project-name", envvar="OS_PROJECT_NAME", help="[env: OS_PROJECT_NAME]")
@click.option(
    "--os-user-domain-name",
    envvar="OS_USER_DOMAIN_NAME",
    default="Default",
    show_default=True,
    help="[env: OS_USER_DOMAIN_NAME]",
)
@click.option(
    "--os-project-domain-name",
    envvar="OS_PROJECT_DOMAIN_NAME",
    default="Default",
    show_default=True,
    help="[env: OS_PROJECT_DOMAIN_NAME]",
)
@click.option("--insecure", is_flag=True, help="Take any certificate.")
@click.option(
    "--slo",
    "objectives",
    multiple=True,
    metavar="OBJECTIVE",
    help="As p99<10ms, errors=0, errors<0.1%, rate>=1000, messages.post:p99.9<50ms; repeat for several.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path),
    help="Write the result, for `compare` and programs.",
)
@click.option("--markdown", "markdown_file", type=click.Path(path_type=Path), help="Write the tables.")
@click.option("--html", "html_file", type=click.Path(path_type=Path), help="Write one page with plots.")
@click.option(
    "--svg",
    "svg_folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the plots into a folder.",
)
@click.option(
    "--picture",
    "picture_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write figures and plots as one picture, a .svg or a .png.",
)
@click.option("--quiet", is_flag=True, help="No progress.")
def run(*, list_scenarios: bool, quiet: bool, **options: Any) -> None:
    """Load a server and tell what it did.

    With --rate, turns begin when they are due whether or not the server has answered others, and latency
    counts from when they were due: what a slow server keeps waiting is measured too.

    Exit status: 0 when every objective was kept, 1 when one was broken, 2 when there is no result.
    """
    from sukkal.bench.scenarios import SCENARIOS

    if list_scenarios:
        for name, scenario in SCENARIOS.items():
            click.echo(f"{name:14} {scenario.about}")
        return
    from sukkal.bench.slo import BadObjective, Slo

    try:
        objectives = [Slo.parse(text) for text in options["objectives"]]
    except BadObjective as exc:
        _give_up(exc)
    _check_picture(options["picture_file"])
    plan = _plan(options)
    result = _carried_out(plan, keep=options["keep"], quiet=quiet)
    import msgspec

    result = msgspec.structs.replace(result, slo=[each.judge(result) for each in objectives])
    _write(result, options)
    sys.exit(_KEPT if all(each.kept for each in result.slo) else _BROKEN)


def _check_picture(file: Path | None) -> None:
    """Give up on a picture that could not be made, before anything is measured for it."""
    from sukkal.bench.picture import CannotDraw, check_png

    if file is None or file.suffix == ".svg":
        return
    if file.suffix != ".png":
        _give_up(f"--picture {file}: its name must end with .svg or .png.")
    try:
        check_png()
    except CannotDraw as exc:
        _give_up(exc)


def _plan(options: dict[str, Any]) -> "Plan":
    from sukkal.bench import bodies
    from sukkal.bench.calls import BadTarget, Target
    from sukkal.bench.plan import Plan
    from sukkal.bench.scenarios import SCENARIOS

    if options["url"] is None:
        _give_up("--url is needed: where the server is.")
    scenario = SCENARIOS.get(options["scenario"])
    if scenario is None:
        _give_up(f"There is no scenario {options['scenario']}; there are {', '.join(SCENARIOS)}.")
    if options["messages"] and options["sizes"]:
        _give_up("Give --messages or --size, not both.")
    projects = options["projects"] or scenario.projects
    if projects > 1 and options["auth"] != "none":
        _give_up("Many projects need a server without authentication: a token has one project.")
    try:
        target = Target.parse(options["url"], insecure=options["insecure"])
        texts = (
            bodies.of_file(options["messages"]) if options["messages"] else bodies.of_sizes(options["sizes"])
        )
    except (BadTarget, bodies.BadMessages, OSError) as exc:
        _give_up(exc)
    headers, project = _identity(options)
    run_id = uuid.uuid4().hex[:8]
    name = f"{options['queue_prefix']}-{run_id}"
    connections = options["connections"]
    processes = options["processes"] or max(1, (os.cpu_count() or 1) // 2)
    return Plan(
        target=target,
        scenario=options["scenario"],
        bodies=texts,
        headers=headers,
        projects=[project] if projects == 1 else [f"{project}-{run_id}-{i}" for i in range(projects)],
        queues=[f"{name}-{i}" for i in range(options["queues"] or scenario.queues)],
        processes=min(processes, connections),
        backlog=scenario.backlog if options["backlog"] is None else options["backlog"],
        **{
            same: options[same]
            for same in ("duration", "warmup", "interval", "timeout", "connections", "rate")
        },
        **{same: options[same] for same in ("batch", "limit", "pipeline", "wait", "ttl")},
    )


def _identity(options: dict[str, Any]) -> tuple[dict[str, str], str]:
    """Headers of the identity, and the id of the project."""
    if options["auth"] == "token":
        if not options["token"]:
            _give_up("--auth token needs --token or OS_TOKEN.")
        return {"X-Auth-Token": options["token"]}, options["project"]
    if options["auth"] == "none":
        return {}, options["project"]
    from sukkal.bench.identity import NoToken, Password, token

    needed = ("auth_url", "username", "password", "project_name")
    missing = [f"OS_{name.upper()}" for name in needed if not options[f"os_{name}"]]
    if missing:
        _give_up(f"--auth keystone needs {', '.join(missing)}.")
    names = (*needed, "user_domain_name", "project_domain_name")
    try:
        password = Password(**{name: options[f"os_{name}"] for name in names}, insecure=options["insecure"])
        value, project = token(password)
    except NoToken as exc:
        _give_up(exc)
    return {"X-Auth-Token": value}, project


def _carried_out(plan: "Plan", *, keep: bool, quiet: bool) -> "Result":
    import asyncio

    from sukkal.bench.run import CannotRun
    from sukkal.bench.run import run as carry_out

    try:
        if quiet:
            return asyncio.run(carry_out(plan, keep=keep))
        try:
            from rich.console import Console

            from sukkal.bench.progress import Progress
        except ImportError:
            _give_up("Progress needs rich: install sukkal[bench], or run with --quiet.")
        with Progress(Console(stderr=True), plan.duration) as progress:
            return asyncio.run(carry_out(plan, keep=keep, told=progress.told, progress=progress.moment))
    except CannotRun as exc:
        _give_up(exc)


def _write(result: "Result", options: dict[str, Any]) -> None:
    import msgspec

    from sukkal.bench import picture, report

    click.echo(report.markdown(result), nl=False)
    try:
        if options["json_file"]:
            text = msgspec.json.format(msgspec.json.encode(result), indent=1)
            options["json_file"].write_bytes(text + b"\n")
        if options["markdown_file"]:
            options["markdown_file"].write_text(report.markdown(result), encoding="utf-8")
        if options["html_file"]:
            options["html_file"].write_text(report.html(result), encoding="utf-8")
        if options["svg_folder"]:
            options["svg_folder"].mkdir(parents=True, exist_ok=True)
            for name, plot in report.pictures(result).items():
                (options["svg_folder"] / f"{name}.svg").write_text(plot, encoding="utf-8")
        if options["picture_file"]:
            drawn = picture.svg(result)
            png = options["picture_file"].suffix == ".png"
            options["picture_file"].write_bytes(picture.png(drawn) if png else drawn.encode())
    except OSError as exc:
        _give_up(exc)


@bench.command()
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@click.option(
    "--threshold",
    type=click.FloatRange(0),
    default=5.0,
    show_default=True,
    help="Percent up to which a change is noise, however sure.",
)
@click.option("--fail", is_flag=True, help="End with 1 when something is worse.")
def compare(before: Path, after: Path, *, threshold: float, fail: bool) -> None:
    """Tell what changed from one result to another, and whether it is noise.

    Exit status: 0, 1 with --fail when a figure is worse, 2 when a file is no result.
    """
    from sukkal.bench import compare as comparing
    from sukkal.bench.report import markdown_table
    from sukkal.bench.result import BadResult, read

    try:
        old, new = read(before), read(after)
    except BadResult as exc:
        _give_up(exc)
    for difference in comparing.differences(old, new):
        click.echo(f"The loads differ in {difference}.", err=True)
    changes = comparing.compare(old, new, threshold=threshold / 100)
    click.echo(markdown_table(comparing.table(changes)))
    if old.error_count or new.error_count:
        click.echo(f"\nErrors: {old.error_count:,} before, {new.error_count:,} after.")
    worse = any(change.verdict is comparing.Verdict.WORSE for change in changes)
    sys.exit(_BROKEN if fail and worse else _KEPT)
