"""Meta-train a learner on episodes, on one process or many.

    python recipes/meta_train.py prototypical --card everyday
    accelerate launch --cpu --num_processes 2 recipes/meta_train.py prototypical --card banking77 --split 1 \
        --data-root data --out runs/banking77

`python recipes/meta_train.py prototypical --help` lists every option. The same as `fewtext train`.
"""

import sys

from fewtext.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
