"""``python -m trio_ws``: hands over to the command line, and knows nothing else."""

from __future__ import annotations

import sys

from ._cli import main

sys.exit(main())
