"""Draws a Grafana dashboard's panels from the answers of its queries: picture.py DASHBOARD.json RESULTS.json PICTURE.png

There is no Grafana where this runs. The panels' places, titles, units and legends are the dashboard's, the data is Prometheus's.
"""

import json
import math
import re
import sys

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

PAPER, CARD, EDGE, INK, FAINT = "#f4f5f5", "#ffffff", "#d8dadd", "#24292e", "#6e7781"
LINES = ["#3274d9", "#e0752d", "#56a64b", "#a352cc", "#e0b400", "#1f9e9e", "#8f5b34", "#ec6ca8"]
BY_NAME = {"green": "#37872d", "red": "#c4162a", "orange": "#e0752d", "text": INK}
STEADY = {"Programmed": "#6fb865", "success": "#56a64b", "errors": "#e02f44", "error": "#e02f44", "Invalid": "#e02f44", "ApplyFailed": "#8f5b34",
          "Switching": "#8ab8ff", "Pending": "#c7ccd1", "ServiceMissing": "#a352cc", "VirtualService failed": "#e02f44"}


def number(value, unit):
    if unit == "bytes":
        return f"{value / 2**20:.0f} MiB"
    if unit == "percentunit":
        return f"{value * 100:.0f} %"
    if unit == "s":
        for factor, name in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
            if value * factor >= 1 or name == "µs":
                return f"{value * factor:.3g} {name}" if value else "0 s"
    suffix = {"wps": " /s", "reqps": " /s", "ops": " /s"}.get(unit, "")
    return f"{value:.3g}{suffix}"


def numbers(series):
    pairs = [(float(at), float(value)) for at, value in series["values"]]
    return [(at, value) for at, value in pairs if math.isfinite(value)]


def answers(panel, results):
    """The series of a panel, each with its legend, ordered by it."""
    for target, matrix in zip(panel["targets"], results[panel["title"]]):
        named = []
        for series in matrix:
            labels = series["metric"]
            named.append((re.sub(r"{{(\w+)}}", lambda m: labels.get(m[1], ""), target["legendFormat"]), series))
        yield from sorted(named, key=lambda pair: pair[0])


def draw_stat(axes, panel, results):
    defaults = panel["fieldConfig"]["defaults"]
    (_, series), *_ = answers(panel, results)
    value = numbers(series)[-1][1]
    color = INK
    for step in defaults["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            color = BY_NAME[step["color"]]
    axes.text(0.5, 0.42, number(value, defaults["unit"]), fontsize=24, fontweight="bold", color=color, ha="center", va="center")
    axes.axis("off")


def draw_table(axes, panel, results):
    """What stood in the table at its fullest moment."""
    options = next(t["options"] for t in panel["transformations"] if t["id"] == "organize")
    columns = sorted(options["indexByName"], key=options["indexByName"].get)
    at = {}
    for target, matrix in zip(panel["targets"], results[panel["title"]]):
        for series in matrix:
            for moment, value in numbers(series):
                row = at.setdefault(moment, {}).setdefault(frozenset(series["metric"].items()), dict(series["metric"]))
                row["Value #" + target["refId"]] = f"{value:g}"
    moment = max(at, key=lambda m: (len(at[m]), m))
    for column, name in enumerate(columns):
        axes.text(column / len(columns), 0.95, options.get("renameByName", {}).get(name, name), fontsize=8.5, fontweight="bold", color=FAINT, va="top")
    for line, row in enumerate(sorted(at[moment].values(), key=lambda r: [r[name] for name in columns])[:9]):
        for column, name in enumerate(columns):
            axes.text(column / len(columns), 0.84 - line * 0.095, row[name], fontsize=8.5, color=INK, va="top")
    axes.axis("off")


def draw_lines(axes, panel, results, span):
    defaults = panel["fieldConfig"]["defaults"]
    begin, end = span
    drawn = [(legend, numbers(series)) for legend, series in answers(panel, results)]
    drawn = [(legend, points) for legend, points in drawn if points]
    fresh = iter(LINES * 3)
    colors = {legend: STEADY.get(legend) or next(fresh) for legend, _ in drawn}
    if "stacking" in defaults["custom"]:
        drawn.sort(key=lambda pair: pair[0] != "Programmed")
        times = sorted({at for _, points in drawn for at, _ in points})
        heights = [[dict(points).get(at, 0) for at in times] for _, points in drawn]
        axes.stackplot([at - begin for at in times], heights, labels=[l for l, _ in drawn], colors=[colors[l] for l, _ in drawn], alpha=0.75, lw=0)
    else:
        for position, (legend, points) in enumerate(drawn):
            # A series that came and went leaves a gap, as it does in Grafana.
            x, y = [], []
            for at, value in points:
                if x and at - begin - x[-1] > 1.5:
                    x.append(math.nan)
                    y.append(math.nan)
                    x.append(at - begin)
                else:
                    x.append(at - begin)
                y.append(value)
            # Lines that lie on each other are all seen: the first is the widest.
            width = 1.3 + (0.9 * (len(drawn) - 1 - position) if len(drawn) == 4 and not STEADY.keys() & colors.keys() else 0)
            axes.plot(x, y, color=colors[legend], lw=width, label=legend)
            if len(drawn) < 3:
                axes.fill_between(x, y, color=colors[legend], alpha=0.1, lw=0)
    axes.set_xlim(0, end - begin)
    axes.set_ylim(bottom=0, top=max(axes.get_ylim()[1], 1e-9))
    axes.yaxis.set_major_locator(MultipleLocator(2**24) if defaults["unit"] == "bytes" else MaxNLocator(4, integer=defaults["unit"] == "short"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: number(v, defaults["unit"])))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{int(v) // 60}:{int(v) % 60:02d}"))
    axes.tick_params(colors=FAINT, labelsize=8, length=0)
    axes.grid(color="#ebedef", lw=0.8)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=4 if len(drawn) < 9 else 6, fontsize=7.5, frameon=False, labelcolor=INK, handlelength=1.1,
                columnspacing=1.2, handletextpad=0.5)


def main():
    dashboard, results = (json.load(open(name, encoding="utf-8")) for name in sys.argv[1:3])
    moments = [at for matrices in results.values() for matrix in matrices for series in matrix for at, _ in numbers(series)]
    span = min(moments), max(moments)
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"]) + 1.6
    column, line = 0.62, 0.36  # inches
    figure = plt.figure(figsize=(24 * column, height * line), facecolor=PAPER, dpi=100)
    wide, high = 24 * column, height * line

    def box(x, y, w, h):
        """Inches from the top left corner, as parts of the picture."""
        return [x / wide, 1 - (y + h) / high, w / wide, h / high]

    figure.text(0.15 / wide, 1 - 0.36 / high, dashboard["title"], fontsize=15, fontweight="bold", color=INK, va="center")
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        x, y, w, h = place["x"] * column, (place["y"] + 1.6) * line, place["w"] * column, place["h"] * line
        if panel["type"] == "row":
            figure.text((x + 0.15) / wide, 1 - (y + h * 0.6) / high, panel["title"], fontsize=11, fontweight="bold", color=INK, va="center")
            continue
        card = figure.add_axes(box(x + 0.06, y + 0.05, w - 0.12, h - 0.1), facecolor=CARD, xticks=[], yticks=[])
        for side in card.spines.values():
            side.set_color(EDGE)
        figure.text((x + 0.18) / wide, 1 - (y + 0.24) / high, panel["title"], fontsize=9.5, color=INK, va="center")
        if panel["type"] == "timeseries":
            axes = figure.add_axes(box(x + 0.75, y + 0.45, w - 0.98, h - 1.12), facecolor=CARD)
            draw_lines(axes, panel, results, span)
            continue
        axes = figure.add_axes(box(x + 0.2, y + 0.42, w - 0.4, h - 0.52), facecolor=CARD)
        (draw_stat if panel["type"] == "stat" else draw_table)(axes, panel, results)
    figure.savefig(sys.argv[3], facecolor=PAPER)


main()
