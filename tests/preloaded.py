"""Loaded by the server that the commands of tests are forked from: they take less time with it.

Cutting a font down to the letters of a PDF takes longer than all else that a small command does.
PDFs as users get them are those of ``test_reporting.py`` and of commands that run in fresh
interpreters (README, quickstart).
"""

import scipy.stats  # noqa: F401 - intervals, which many commands tell

from coverage_principle.reporting import style

style._STYLE |= {"pdf.fonttype": 3}
