"""The screens of `mmplane top`, from two snapshots: views that fit a terminal of 80x24. Pure."""

from __future__ import annotations

from collections.abc import Callable

from rich import box
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mmplane.core.stages import PHASES, STAGES
from mmplane.observe.snapshot import Between

BAR_CELLS = 32
STATES = {
    "writing": ("w", "yellow"),
    "unclaimed": ("u", "magenta"),
    "leased": ("#", "green"),
    "evictable": ("=", "blue"),
    "quarantined": ("Q", "bold red"),
    "free": (".", "bright_black"),
}
"""Letter and colour of the arena's bytes by state, in drawing order."""
MIB = 2**20


def screen(between: Between) -> RenderableType:
    """All views, one below the other, for scripts."""
    upper = Columns([_panel("requests now", _phases(between)), _panel("stages", _stages(between))])
    lower = Columns([_panel("deliveries", _deliveries(between)), _panel("ranks", _ranks(between))])
    machines = [_panel("media machines", _machines(between))] if _places(between) else []
    return Group(_head(between), upper, _panel("arena", _arena(between)), lower, *machines)


def view(between: Between, key: str) -> RenderableType:
    """The view of this key of `VIEWS`: the summary, all keys, a table."""
    keys = [Text(f"{each} {name}", "reverse" if each == key else "dim") for each, (name, _) in VIEWS.items()]
    return Group(_head(between), Text("  ").join([*keys, Text("q quit", "dim")]), VIEWS[key][1](between))


def _head(between: Between) -> Text:
    now = between.after
    attached = now.sum("mmplane_ranks_attached") > 0
    workers = now.by("state", "mmplane_workers")
    failed = between.rate("mmplane_request_seconds_count", outcome="failed")
    restarts = sum(now.by("role", "mmplane_restarts_total").values())
    parts = [
        f"{between.rate('mmplane_request_seconds_count'):.1f} requests/s",
        f"{now.sum('mmplane_requests_in_flight'):.0f} in flight",
        f"{between.rate('mmplane_completion_tokens_total'):.0f} tokens/s",
        f"{failed:.1f} failed/s",
        f"workers {workers.get('busy', 0):.0f} busy of {sum(workers.values()):.0f}",
        f"budget {_share(now.sum('mmplane_budget_reserved_bytes'), now.sum('mmplane_budget_limit_bytes'))}",
        f"{restarts:.0f} restarts",
    ]
    state = Text(" serving ", "black on green") if attached else Text(" no ranks ", "white on red")
    return Text("  ").join([state, Text(" · ".join(parts))])


def _phases(between: Between) -> Table:
    table = _table("phase", "now", "")
    counts = between.after.by("phase", "mmplane_requests_in_phase")
    most = max(counts.values(), default=0.0)
    for phase in PHASES:
        count = counts.get(phase, 0.0)
        table.add_row(phase, f"{count:.0f}", _bar(count, most))
    return table


def _stages(between: Between) -> Table:
    table = _table("stage", "/s", "mean ms", "p99 ms")
    for stage in STAGES:
        name = "mmplane_stage_seconds"
        mean_s = between.mean_s(name, stage=stage)
        table.add_row(
            stage,
            f"{between.rate(name + '_count', stage=stage):.1f}",
            _ms(mean_s),
            _ms(between.quantile_s(0.99, name, stage=stage), bound=True),
        )
    return table


def _arena(between: Between) -> Table:
    now = between.after
    table = _table("region", "map", "MiB used", "of", "longest free")
    for region in now.by("region", "mmplane_arena_bytes"):
        states = now.by("state", "mmplane_arena_bytes", region=region)
        whole = sum(states.values())
        free = now.sum("mmplane_arena_largest_free_bytes", region=region)
        used = whole - states.get("free", 0.0)
        table.add_row(region, _map(states, whole), f"{used / MIB:.1f}", f"{whole / MIB:.0f}", f"{free / MIB:.0f}")
    hits, misses = between.rise("mmplane_arena_hits_total"), between.rise("mmplane_arena_misses_total")
    legend = "  ".join(f"{letter} {state}" for state, (letter, _) in STATES.items())
    evictions = between.rate("mmplane_arena_evictions_total")
    table.caption = (
        f"{legend}\n{now.sum('mmplane_arena_items'):.0f} items · {now.sum('mmplane_arena_leases'):.0f} leases · "
        f"hits {_share(hits, hits + misses)} · {evictions:.1f} evictions/s"
    )
    return table


def _deliveries(between: Between) -> Table:
    table = _table("delivery", "share", "answered/s", "failed/s", "mean ms")
    shares = between.after.by("delivery", "mmplane_delivery_share")
    name = "mmplane_delivery_requests_total"
    for delivery in dict.fromkeys([*shares, *between.after.by("delivery", name)]):
        table.add_row(
            delivery,
            f"{shares[delivery]:.0%}" if delivery in shares else "-",
            f"{between.rate(name, delivery=delivery, outcome='answered'):.1f}",
            f"{between.rate(name, delivery=delivery, outcome='failed'):.1f}",
            _ms(between.mean_s("mmplane_delivery_latency_seconds", delivery=delivery)),
        )
    return table


def _ranks(between: Between) -> Table:
    table = _table("rank", "plan", "behind", "stall p99 ms", "deliver ms", "encode ms")
    plans = between.after.by("rank", "mmplane_plan_number")
    newest = max(plans.values(), default=0.0)
    for rank, plan in plans.items():
        table.add_row(
            rank,
            f"{plan:.0f}",
            f"{newest - plan:.0f}",
            _ms(between.quantile_s(0.99, "mmplane_rank_loop_stall_seconds", rank=rank), bound=True),
            _ms(between.mean_s("mmplane_rank_deliver_seconds", rank=rank)),
            _ms(between.mean_s("mmplane_rank_encode_seconds", rank=rank)),
        )
    if machines := between.after.sum("mmplane_rank_machines"):
        rate = between.rate("mmplane_copied_bytes_total") / MIB
        waiting = between.after.sum("mmplane_copies_waiting")
        table.caption = f"other machines: {machines:.0f} · {rate:.1f} MiB/s to them · {waiting:.0f} copies under way"
    return table


def _places(between: Between) -> float:
    return between.after.sum("mmplane_machines")


def _machines(between: Between) -> Table:
    table = _table("place", "machine", "items/s", "MiB/s out", "MiB/s in")
    for labels, _ in between.after.samples.get("mmplane_machine_items_total", ()):
        out, in_ = (
            between.rate("mmplane_machine_bytes_total", **labels, direction=direction) / MIB
            for direction in ("sent", "received")
        )
        items = between.rate("mmplane_machine_items_total", **labels)
        table.add_row(labels["place"], labels["machine"], f"{items:.1f}", f"{out:.1f}", f"{in_:.1f}")
    joined = between.after.sum("mmplane_machines", state="joined")
    lost = between.after.sum("mmplane_machines_lost_total")
    table.caption = (
        f"{joined:.0f} of {_places(between):.0f} · {lost:.0f} lost so far · "
        f"{between.rate('mmplane_machine_retries_total'):.1f} items/s made here instead"
    )
    return table


def _map(states: dict[str, float], whole: float) -> Text:
    """A region as a row of letters, as long as each state's share; every state that occurs gets at least one."""
    cells = {
        state: max(1, round(states.get(state, 0.0) / whole * BAR_CELLS)) if states.get(state, 0.0) else 0
        for state in STATES
        if state != "free"
    }
    cells["free"] = max(0, BAR_CELLS - sum(cells.values()))
    return Text.assemble(*((letter * cells[state], colour) for state, (letter, colour) in STATES.items()))


def _bar(value: float, most: float) -> Text:
    return Text("█" * (max(1, round(value / most * BAR_CELLS)) if value else 0), "cyan")


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole else "-"


def _ms(seconds: float | None, *, bound: bool = False) -> str:
    if seconds is None:
        return "-"
    return f"{'<' if bound else ''}{seconds * 1000:.1f}"


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 or column in ("", "map") else "right", no_wrap=True)
    return table


def _panel(title: str, inside: RenderableType) -> Panel:
    return Panel(inside, title=title, title_align="left", box=box.ROUNDED, expand=False)


VIEWS: dict[str, tuple[str, Callable[[Between], Table]]] = {
    "1": ("requests", _phases),
    "2": ("stages", _stages),
    "3": ("arena", _arena),
    "4": ("ranks", _ranks),
    "5": ("deliveries", _deliveries),
    "6": ("machines", _machines),
}
"""The views by their keys."""
