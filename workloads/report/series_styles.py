"""Styles that distinguish the series of a plot, in the report and on the page of `potstill ui`."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b85c98", "#6f67d0", "#946a00", "#3d7f8c", "#c9524a")
"""Each at least 3:1 against the page, light and dark (WCAG 1.4.11); the first four are of Okabe and Ito's set."""
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "pentagon", "cross")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
