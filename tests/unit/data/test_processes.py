import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LOOPBACK = socket.inet_ntoa(socket.INADDR_LOOPBACK.to_bytes(4, "big"))
SCRIPT = """
import sys, time
from pathlib import Path
from accelerate import PartialState
from hf_nar.data.processes import first_of_each_node

PartialState(cpu=True)
with first_of_each_node():
    times = [time.monotonic()]
    time.sleep(0.2)
    times.append(time.monotonic())
Path(sys.argv[1]).write_text(" ".join(map(str, times)))
"""


@pytest.mark.slow
def test_the_main_process_goes_first_then_one_of_each_node(tmp_path):
    with socket.socket() as server:
        server.bind((LOOPBACK, 0))
        port = str(server.getsockname()[1])
    own = {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "WORLD_SIZE": "4"}
    own |= {"MASTER_ADDR": LOOPBACK, "MASTER_PORT": port, "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-c", SCRIPT]

    processes = [  # 0 and 1 on one node, 2 and 3 on another
        subprocess.Popen(
            [*command, str(tmp_path / str(rank))],
            env={**os.environ, **own, "RANK": str(rank), "LOCAL_RANK": str(rank % 2)},
        )
        for rank in range(4)
    ]

    assert [process.wait(timeout=300) for process in processes] == [0] * 4
    begin, end = zip(
        *(map(float, (tmp_path / str(rank)).read_text().split()) for rank in range(4)), strict=True
    )
    assert end[0] <= begin[2]
    assert end[2] <= min(begin[1], begin[3])
    assert max(begin[1], begin[3]) <= min(end[1], end[3])  # the rest at once
