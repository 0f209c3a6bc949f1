"""The report of a whole run: every plot has data, numbers are the JSON's, nothing is fetched, no text escapes."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from bench_run import row_of, run_of, whole_run

from mmplane.bench.judge.groups import groups
from mmplane.bench.judge.joined import joined
from mmplane.bench.report.answers import answers
from mmplane.bench.report.columns import in_order, table
from mmplane.bench.report.html_report import page as html_page
from mmplane.bench.report.markdown import page
from mmplane.bench.report.plots import plots
from mmplane.bench.report.terminal import notes, tables, verdicts
from mmplane.bench.run.figures import peak_bytes
from mmplane.config import DELIVERY_NAMES
from mmplane.observe.colours import STAGE_COLOURS


class Page(HTMLParser):
    """What a page consists of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.scripts: list[str] = []
        self.fetched: list[str] = []
        self.cells: list[str] = []
        self._tag = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        given = dict(attrs)
        if given.get("class") == "plot":
            self.ids.append(str(given["id"]))
        self.fetched += [str(given[name]) for name in ("src", "href") if name in given]
        if tag == "script":
            self.scripts.append("")
        if tag == "td":
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        self._tag = ""

    def handle_data(self, data: str) -> None:
        if self._tag == "script":
            self.scripts[-1] += data
        if self._tag == "td":
            self.cells[-1] += data


@pytest.fixture(scope="module")
def html() -> Page:
    return Page(html_page(joined([whole_run()])))


def test_the_page_has_every_kind_of_plot_and_each_has_data(html: Page) -> None:
    drawn = json.loads(html.scripts[1])
    kinds = {re.sub(r"-(photo|4k|\d).*", "", plot["id"]) for plot in drawn}
    assert kinds == {
        "throughput",
        "cpu",
        "stalls",
        "timeline-p50",
        "memory",
        "soak",
        "ranks",
        "bytes",
        "peers",
    }
    assert [plot["id"] for plot in drawn] == html.ids
    assert len(set(html.ids)) == len(html.ids)
    for plot in drawn:
        assert plot["data"], plot["id"]
        assert all(len(trace["x"]) == len(trace["y"]) > 0 for trace in plot["data"]), plot["id"]
        assert plot["layout"]["xaxis"]["title"]["text"]


def test_the_page_holds_the_run_and_fetches_nothing(html: Page) -> None:
    assert json.loads(html.scripts[0]) == json.loads(json.dumps(joined([whole_run()])))
    assert html.fetched == ["data:,"]
    assert len(html.scripts) == 4, "some text has ended or begun a script"
    assert len(html.scripts[2]) > 1_000_000, "Plotly is inlined"


def test_every_row_is_in_the_tables(html: Page) -> None:
    for _, rows in groups(whole_run()["rows"]):
        for cells in table(in_order(rows))[1]:
            assert all(cell in html.cells for cell in cells if cell)


def test_a_failed_row_is_no_result_and_in_no_plot(html: Page) -> None:
    assert "no result: 2 x overloaded" in html.cells
    assert not any("4k" in plot for plot in html.ids)


def test_an_empty_run_has_no_plot_without_data() -> None:
    assert plots(run_of([], memory=[])) == []


def test_the_answer_says_what_is_best_by_how_much_and_why() -> None:
    text = answers(run_of([row_of("arena"), row_of("leader", slower=4.0), row_of("original", slower=2.0)]))[0]
    assert "arena is fastest" in text
    assert "2.0 times original" in text
    assert "4.0 times leader" in text
    assert "ms of CPU" in text


def test_what_overlaps_is_within_noise() -> None:
    close = row_of("leader", slower=1.1)
    assert "within noise" not in answers(run_of([row_of("arena"), close]))[0]
    close["qps_spread"]["max"] = 100.0
    assert "within noise" in answers(run_of([row_of("arena"), close]))[0]


def test_the_markdown_page_has_every_row_and_line() -> None:
    text = page(joined([whole_run()])).text
    assert text.count("| arena, cache on |") == 5
    assert "no result: 2 x overloaded" in text
    assert "500 -> 50 ms" in text
    tables = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    assert len(tables) > 20
    for each in tables:
        assert len({line.count("|") - line.count("\\|") for line in each.splitlines()}) == 1


def test_settings_come_first_then_scaling_then_engines_then_predictions() -> None:
    text = page(joined([whole_run()])).text
    wanted = ["The ten designs, in three settings", "Setting `incident`", "Setting `cores`", "Setting `oversubscribed`",
              "Scaling", "SGLang and front ends", "Predicted and measured", "Analysis A1", "Analysis D1"]  # fmt: skip
    assert [heading for heading in re.findall(r"^##+ (.*)$", text, re.MULTILINE) if heading in wanted] == wanted


def test_the_page_shows_the_charts_that_it_comes_with() -> None:
    made = page(joined([whole_run()]))
    assert set(re.findall(r"\]\(results/(.*?)\)", made.text)) == made.charts.keys() >= {
        "cores-photo-tp2-8-at-once.svg", "oversubscribed-photo-tp4-8-at-once.svg", "ranks.svg", "bytes.svg",
    }  # fmt: skip


def test_rates_of_all_deliveries_come_first() -> None:
    few = [row_of(name, workload="4k") for name in ("arena", "leader")]
    many = [row_of(name) for name in DELIVERY_NAMES]
    first, second, *others = plots(run_of(few + many))
    assert (first.id[:10], second.id[:10]) == ("throughput", "throughput")
    assert [len(each.data[0]["y"]) for each in (first, second)] == [10, 2]
    assert not [each for each in others if each.id.startswith("throughput")]


def test_stages_have_the_colours_of_the_status_page() -> None:
    (timeline,) = [each for each in plots(run_of([row_of("arena")])) if each.id.startswith("timeline")]
    assert {trace["name"]: trace["marker"]["color"] for trace in timeline.data}.items() <= STAGE_COLOURS.items()


@pytest.mark.parametrize(("requests", "shown"), [(199, False), (200, True)])
def test_a_timeline_of_the_99th_percentile_takes_200_requests(requests: int, shown: bool) -> None:
    names = [each.id for each in plots(run_of([row_of("arena") | {"requests": requests}]))]
    assert any("timeline-p99" in name for name in names) == shown


def test_a_machine_that_was_busy_gets_a_banner_and_no_verdicts() -> None:
    run = whole_run()
    assert 'class="loaded"' not in html_page(joined([run]))
    run["environment"]["others_cores"] = 0.4
    text = html_page(joined([run]))
    assert "The machine was busy: other processes used 0.40 cores" in text
    assert "<h2>Predicted and measured</h2>" not in text
    assert "<h2>Targets of arena</h2>" not in text


def test_empty_tables_are_left_out() -> None:
    text = html_page(joined([run_of([row_of("arena")])]))
    assert re.findall(r"<tbody></tbody>", text) == []
    assert "<h2>Targets of arena</h2>" not in text


def test_a_percentile_of_few_is_called_their_maximum() -> None:
    many = row_of("arena") | {"requests": 200}
    names, (few_cells, many_cells) = table([row_of("arena") | {"requests": 199}, many])
    at = names.index("p99 ms")
    assert (few_cells[at], many_cells[at]) == ("max 109", "109")


def test_a_column_is_there_when_a_row_has_it_and_zero_is_a_figure() -> None:
    assert "hashes" not in table([row_of("arena", feature_hashes=None)])[0]
    names, lines = table([row_of("arena", feature_hashes=0), row_of("original", feature_hashes=4)])
    assert [cells[names.index("hashes")] for cells in lines] == ["0", "4"]


def test_an_ingress_that_is_not_the_deliverys_own_is_named() -> None:
    rows = [row_of("leader", ingress=ingress) for ingress in (None, "every-rank", "leader")]
    assert [cells[0] for cells in table(rows)[1]] == ["leader", "leader", "leader, ingress leader"]


def test_the_terminal_shows_the_same() -> None:
    found = whole_run()
    assert sum(table.row_count for table in tables(found["rows"])) == len(found["rows"])
    assert verdicts([]).row_count == 0
    assert any("not measured: auto" in note for note in notes(found))


def test_the_terminal_says_how_large_the_pools_were_once() -> None:
    sizes = [{"workers": 4, "leader_threads": 4, "delivery_threads": size} for size in (2, 2, 3)]
    told = notes(run_of([row_of("arena", pools=pools) for pools in sizes]))
    assert told[0].startswith("null runner")
    assert [note.count("items made at once: 4 by workers") for note in told] == [0, 1, 1]
    assert "3 on each rank (delayed-async)" in told[2]


def test_memory_that_was_not_measured_has_no_column() -> None:
    rows = [row_of(name) for name in ("leader", "arena")]
    assert "peak MB" in table(rows)[0]
    assert "peak MB" not in table([each | {"peak_bytes": peak_bytes([])} for each in rows])[0]


def test_a_table_says_what_each_rank_spent_on_making_features() -> None:
    spent = {str(rank): {"mean": ms, "p50": ms, "p99": ms} for rank, ms in enumerate((12.0, 13.5))}
    rows = [row_of("original", materialise_ms_by_rank=spent), row_of("arena")]
    names, lines = table(rows)
    assert [cells[names.index("ranks' materialise ms")] for cells in lines] == ["12 / 13.5", "-"]


def test_rows_of_another_pace_are_in_a_plot_of_their_own() -> None:
    rows = [row_of("arena", concurrency=at_once) for at_once in (1, 10)]
    drawn = [plot for plot in plots(run_of(rows)) if plot.id.startswith("cpu")]
    assert [plot.id for plot in drawn] == [
        "cpu-photo-2-ranks-1-at-once-runner-null",
        "cpu-photo-2-ranks-10-at-once-runner-null",
    ]
    assert all(len(trace["x"]) == 1 for plot in drawn for trace in plot.data)
