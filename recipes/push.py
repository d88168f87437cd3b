"""Push a saved learner or classifier to the hub.

    python recipes/push.py my-intents me/my-intents --private
    python recipes/push.py runs/banking77 me/banking77-base --results runs/banking77/learner/test-*.json

Log in first (`hf auth login`), or set HF_TOKEN. `python recipes/push.py --help` lists every option. The same as
`fewtext push`.
"""

import sys

from fewtext.cli import main

if __name__ == "__main__":
    sys.exit(main(["push", *sys.argv[1:]]))
