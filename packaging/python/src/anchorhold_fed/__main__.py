"""python3 -m anchorhold_fed is the command anchorhold-fed."""

import sys

from .cli import main

sys.exit(main())
