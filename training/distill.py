"""What `accelerate launch` starts: the same as `hf-nar distill`."""

import sys

from hf_nar.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main(["distill", *sys.argv[1:]]))
