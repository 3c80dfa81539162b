"""Say how many processes work together; started by tests in the place of a training script."""

import sys

from accelerate import PartialState

from hf_nar.data.processes import check_processes

state = PartialState(cpu=True)
check_processes(state.num_processes)
sys.stdout.write(f"process {state.process_index} of {state.num_processes}\n")
