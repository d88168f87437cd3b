"""`python -m fewtext` is the `fewtext` command, as `accelerate launch -m fewtext train …` needs it."""

import sys

from fewtext.cli import main

sys.exit(main())
