"""What a search found: Pareto front, plots, comparison of networks, where the time went."""

from rlnas.report.archive import Archive, Axis
from rlnas.report.breakdown import Breakdown, Interval, breakdown
from rlnas.report.pareto import Point, Ranges, csv_text, dominates, front, hypervolume, relative_hypervolume
from rlnas.report.plot import save_pareto_plot
from rlnas.report.statistics import Estimate, mean_interval, paired_difference, wilson_interval
from rlnas.report.table import Row, markdown_table, plain_table, rich_table

__all__ = [
    "Archive",
    "Axis",
    "Breakdown",
    "Estimate",
    "Interval",
    "Point",
    "Ranges",
    "Row",
    "breakdown",
    "csv_text",
    "dominates",
    "front",
    "hypervolume",
    "markdown_table",
    "mean_interval",
    "paired_difference",
    "plain_table",
    "relative_hypervolume",
    "rich_table",
    "save_pareto_plot",
    "wilson_interval",
]
