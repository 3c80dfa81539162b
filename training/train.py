"""What `accelerate launch` starts: the same as `hf-nar train`."""

import sys

from hf_nar.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main(["train", *sys.argv[1:]]))
