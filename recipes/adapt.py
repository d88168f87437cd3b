"""Adapt: fit a classifier to a few labelled texts, save it, and measure it where there is something to measure on.

    python recipes/adapt.py intents.csv --out my-intents
    python recipes/adapt.py banking77 --split train --shots 5 --test test --data-root data --out runs/banking77-5

`python recipes/adapt.py --help` lists every option. The same as `fewtext fit`.
"""

import sys

from fewtext.cli import main

if __name__ == "__main__":
    sys.exit(main(["fit", *sys.argv[1:]]))
