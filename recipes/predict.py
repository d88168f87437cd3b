"""Classify a file or a data set with a saved classifier, on one process or many, and go on after an interruption.

    python recipes/predict.py my-intents --file questions.jsonl --out answers.jsonl
    accelerate launch --cpu --num_processes 2 recipes/predict.py my-intents --file questions.csv --out answers.csv
    accelerate launch --multi_gpu --num_processes 4 recipes/predict.py my-intents --file owner/name --out answers.csv

`python recipes/predict.py --help` lists every option. The same as `fewtext predict`.
"""

import sys

from fewtext.cli import main

if __name__ == "__main__":
    sys.exit(main(["predict", *sys.argv[1:]]))
