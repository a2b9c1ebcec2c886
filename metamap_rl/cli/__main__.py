"""`python -m metamap_rl.cli`: the same as `metamap`, where the console script is not on the path."""

from __future__ import annotations

import sys

from metamap_rl.cli.app import main

sys.exit(main())
