"""One self-contained page, and the same as pictures, that shows a fused scene beside its inputs and its reference."""

from geofuse.report.collect import gather_content
from geofuse.report.content import ReportContent, ReportLimits
from geofuse.report.figures import write_figures
from geofuse.report.page import render_page, write_report

__all__ = ["ReportContent", "ReportLimits", "gather_content", "render_page", "write_figures", "write_report"]
