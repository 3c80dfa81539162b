"""Documented launch commands start as many processes as they say."""

import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DeepSpeedPlugin
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from tiny_runs import write_recipe

from hf_nar.auto import MODEL_CLASSES
from hf_nar.cli.main import main
from hf_nar.data.processes import check_processes

ROOT = Path(__file__).parents[2]
COUNT = ROOT / "tests/count_processes.py"
CONFIGS = sorted((ROOT / "training/accelerate").glob("*.yaml"))
PAGES = [
    file
    for folder in (ROOT, ROOT / "training", ROOT / "docs", *(ROOT / "model_cards").iterdir())
    for file in sorted(folder.glob("*.md"))
]
NUMBERED = re.compile(r"^((?:accelerate launch|torchrun) .*?)\s+# (\d+) process(?:es)?$", re.M)
DOCUMENTED = NUMBERED.findall((ROOT / "training/README.md").read_text(encoding="utf-8"))
ON_CPUS = [item for item in DOCUMENTED if "cpu" in item[0] or item[0].startswith("torchrun")]
ON_GPUS = [item for item in DOCUMENTED if item not in ON_CPUS]
LOOPBACK = socket.inet_ntoa(socket.INADDR_LOOPBACK.to_bytes(4, "big"))
LAUNCHERS = {"accelerate": "accelerate.commands.launch", "torchrun": "torch.distributed.run"}


def short(item: tuple[str, str]) -> str:
    return item[0].replace("training/", "").replace("RECIPE", "").strip()


def start(arguments: list[str], folder: Path, script: Path = COUNT) -> subprocess.Popen:
    """Start a documented command, with another script in the place of the training script."""
    program, *rest = arguments
    rest = rest[1:] if program == "accelerate" else rest
    rest = [str(script) if part.startswith("training/train") else part for part in rest]
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    own = {"PYTHONPATH": path, "HF_HOME": str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", LAUNCHERS[program], *rest],
        env={**os.environ, **own, "HF_HUB_OFFLINE": "1"},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_port() -> str:
    with socket.socket() as server:
        server.bind((LOOPBACK, 0))
        return str(server.getsockname()[1])


@pytest.mark.parametrize("item", ON_CPUS, ids=short)
def test_a_command_for_cpus_starts_what_it_says(item, tmp_path):
    command, number = item
    arguments = shlex.split(command.replace("29500", free_port()).replace("HOST", LOOPBACK))
    copies = [arguments]
    if "--machine_rank" in arguments:  # a command for each machine
        where = arguments.index("--machine_rank") + 1
        copies.append([*arguments[:where], "1", *arguments[where + 1 :]])

    processes = [start(copy, tmp_path) for copy in copies]
    outputs = [process.communicate(timeout=120) for process in processes]

    assert [process.returncode for process in processes] == [0] * len(copies), outputs
    lines = "".join(output for output, _ in outputs).splitlines()
    assert sorted(lines) == [f"process {i} of {number}" for i in range(int(number))]


@pytest.mark.parametrize("item", ON_GPUS, ids=short)
def test_a_command_for_gpus_is_read_as_what_it_says(item):
    command, number = item
    _, _, *arguments = shlex.split(command)

    args, defaults, _ = _validate_launch_command(launch_command_parser().parse_args(arguments))

    assert args.num_processes == int(number)
    assert args.training_script == "training/train.py"
    assert args.use_cpu is False
    is_several = args.multi_gpu or args.use_fsdp or args.use_deepspeed
    assert is_several == (int(number) > 1)
    assert args.mixed_precision == "bf16"
    if args.multi_gpu or args.use_fsdp:
        args.main_process_port = int(free_port())
        environment = prepare_multi_gpu_env(args)
        assert int(args.nproc_per_node) * args.num_machines == int(number)
        assert environment["ACCELERATE_MIXED_PRECISION"] == "bf16"
    if args.use_fsdp:
        assert (environment["FSDP_VERSION"], environment["ACCELERATE_USE_FSDP"]) == ("2", "true")
        assert environment["FSDP_STATE_DICT_TYPE"] == "FULL_STATE_DICT"
    if args.use_deepspeed:
        assert defaults.deepspeed_config["zero_stage"] == args.zero_stage == 2


def test_with_deepspeed_the_recipe_says_how_gradients_are_accumulated_and_clipped(monkeypatch):
    config = ["--config_file", str(ROOT / "training/accelerate/deepspeed.yaml")]
    arguments = launch_command_parser().parse_args([*config, "training/train.py"])
    args, defaults, _ = _validate_launch_command(arguments)
    args.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
    args.main_process_port = int(free_port())
    _, environment = prepare_deepspeed_cmd_env(args)
    for name, value in environment.items():
        if name.startswith("ACCELERATE_"):
            monkeypatch.setenv(name, value)

    read = DeepSpeedPlugin().deepspeed_config

    assert read["zero_optimization"]["stage"] == 2  # each process has all weights to translate with
    assert read["gradient_accumulation_steps"] == read["gradient_clipping"] == "auto"
    assert environment["ACCELERATE_USE_DEEPSPEED"] == "true"


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_accelerate_knows_every_key_of_a_configuration_and_the_docs_name_it(file):
    config = load_config_from_file(str(file))

    assert config.num_processes == yaml.safe_load(file.read_text("utf-8"))["num_processes"]
    assert any(f"accelerate/{file.name}" in command for command, _ in DOCUMENTED)


def test_fsdp_wraps_layers_that_the_networks_have():
    config = yaml.safe_load((ROOT / "training/accelerate/fsdp.yaml").read_text("utf-8"))
    wrapped = set(config["fsdp_config"]["fsdp_transformer_layer_cls_to_wrap"].split(","))

    for config_class, model_class in MODEL_CLASSES.items():
        model = model_class(config_class(vocab_size=20))
        assert wrapped <= {type(module).__name__ for module in model.modules()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_launches_without_a_configuration(page):
    text = re.sub(r"\\\n\s*(?:#\s*)?", "", page.read_text(encoding="utf-8"))
    for line in re.findall(r"accelerate launch [^`\n]*", text):
        if "--cpu --num_processes 2" in line:  # as what is refused
            continue
        config = re.search(r"--config_file (\S+)", line)
        assert config, line
        assert config[1] == "FILE" or (ROOT / config[1]).is_file(), line


def test_accelerate_leaves_a_lone_process_what_it_is_refused_by(tmp_path):
    command = ["accelerate", "launch", "--cpu", "--num_processes", "2", "training/train.py"]

    process = start(command, tmp_path)
    output, errors = process.communicate(timeout=120)

    assert process.returncode != 0
    assert output == ""
    assert "was started for several processes, but is alone" in errors


def test_a_training_run_looks_how_many_it_was_started_for(tmp_path, monkeypatch, capsys):
    for name, value in (("ACCELERATE_MIXED_PRECISION", "no"), ("MASTER_ADDR", "HOST")):
        monkeypatch.setenv(name, value)

    code = main(["train", str(write_recipe(tmp_path))])

    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith("hf-nar: error: This run was started for several processes")
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["WORLD_SIZE", "PMI_SIZE"])
def test_processes_that_do_not_meet_are_refused(name):
    with pytest.raises(ValueError, match="2 were started, and this one works with 0 others"):
        check_processes(1, {name: "2"})


@pytest.mark.parametrize(
    ("number", "environment"),
    [
        (1, {}),
        (1, {"ACCELERATE_MIXED_PRECISION": "no"}),
        (1, {"MASTER_ADDR": "HOST"}),
        (1, {"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "HOST", "WORLD_SIZE": "1"}),
        (2, {"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "HOST", "WORLD_SIZE": "2"}),
    ],
)
def test_processes_that_meet_are_let_through(number, environment):
    check_processes(number, environment)
