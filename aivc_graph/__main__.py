"""``python -m aivc_graph`` is ``aivc``."""

from __future__ import annotations

import sys

from aivc_graph.cli import main

sys.exit(main())
