"""A worker with a planted bug: `python -m tests.chaos.planted NAME worker …`; everything else as `hardparts worker`."""

from __future__ import annotations

import os
import sys

from tests.chaos.launch import main
from tests.chaos.planted.bugs import BUGS

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in BUGS:
        print(
            f"usage: python -m tests.chaos.planted NAME worker …, NAME being one of: {', '.join(BUGS)}", file=sys.stderr
        )
        sys.exit(2)
    os.environ["CHAOS_PLANTED"] = sys.argv.pop(1)
    main()
