"""Measure a meta-trained learner on unseen classes, beside the frozen encoder on the same episodes.

    python recipes/meta_test.py runs/everyday --card everyday
    python recipes/meta_test.py runs/banking77 --card banking77 --split 1 --shots 5 --data-root data

`python recipes/meta_test.py --help` lists every option. The same as `fewtext test`.
"""

import sys

from fewtext.cli import main

if __name__ == "__main__":
    sys.exit(main(["test", *sys.argv[1:]]))
