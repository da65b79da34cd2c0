"""vLLM in training: each refusal, against a server of this machine, and what of TRL's own code runs without vLLM."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import ppo_two_processes
import pytest
import requests
import torch
from datasets import Dataset
from peft import get_peft_model
from transformers import AutoModelForCausalLM
from trl import GRPOConfig, GRPOTrainer
from trl.generation.vllm_client import VLLMClient
from trl.generation.vllm_generation import VLLMGeneration
from trl.scripts import vllm_serve

from recipes import grpo, hardware, ppo, vllm
from recipes.arguments import RecipeParser
from recipes.errors import InputError
from recipes.hardware import STARTER_FOLDER
from recipes.preflight import preflight
from recipes.qlora import QLoRA

# A CPU stands in for the GPU: what is asked for here ends before a model is loaded.
ON_A_GPU = ["--use_vllm", "--use_cpu", "False", "--load_in_4bit", "False", "--task", "word_problems"]
SERVER = [*ON_A_GPU, "--vllm_mode", "server", "--dry_run"]
GPU = hardware.Machine("cuda", "GPU", 23.0, bf16=True, card_gb=24.0)


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(vllm, "is_vllm_available", lambda: True)


@pytest.mark.parametrize("recipe", [grpo, ppo])
def test_what_the_flags_show_is_refused_at_once(refused_by, recipe):
    def refused(*flags):
        return refused_by(recipe.main, *flags, "--task", "word_problems")

    assert "--use_vllm needs a CUDA GPU to train with, and none is in use here" in refused("--use_vllm")
    assert "4-bit weights and vLLM do not go together" in refused("--use_vllm", "--use_cpu", "False")
    said = refused("--use_vllm", "--use_cpu", "False", "--load_in_4bit", "False", "--load_in_8bit")
    assert "8-bit weights and vLLM do not go together" in said
    assert "--vllm_mode server has no effect without --use_vllm" in refused("--vllm_mode", "server")
    assert "Unknown --vllm_mode 'sever'. Did you mean server?" in refused(*ON_A_GPU, "--vllm_mode", "sever")
    said = refused(*ON_A_GPU, "--vllm_importance_sampling_mode", "token")
    assert "Unknown --vllm_importance_sampling_mode 'token'." in said
    said = refused(*ON_A_GPU, "--vllm_gpu_memory_utilization", "30")
    assert "--vllm_gpu_memory_utilization 30.0: give a share" in said
    assert "does not divide the 1 processes" in refused(*ON_A_GPU, "--vllm_tensor_parallel_size", "2")


@pytest.mark.skipif(vllm.is_vllm_available(), reason="vLLM is installed here")
def test_without_vllm_the_way_to_it_is_named(refused_by):
    assert "--use_vllm needs vLLM: pip install 'trl[vllm]', or drop the flag." in refused_by(grpo.main, *ON_A_GPU)
    assert "needs vLLM, also where a server writes the completions" in refused_by(grpo.main, *SERVER)
    with pytest.raises(ImportError, match="vLLM is not installed"):  # so says TRL, of its client too
        VLLMClient(base_url="http://127.0.0.1:1")


class Server:
    """Answers as `trl vllm-serve` does, as far as it is asked before training; `at` is its address."""

    def __init__(self, model: str, **more):
        answers = {
            "/health": {},
            "/v1/models": {"data": [{"id": model, "root": model, "max_model_len": 4096}]},
            "/server_info": {"vllm_config": {"weight_transfer_config": {"backend": "nccl"}}},
            **{f"/{path.replace('__', '/')}": content for path, content in more.items()},
        }

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                content = answers.get(self.path.partition("?")[0])
                self.send_response(404 if content is None else 200)
                self.end_headers()
                self.wfile.write(json.dumps(content).encode())

            def log_message(self, *args):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.at = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception):
        self.server.shutdown()
        self.server.server_close()


def ask(at: str, tokens: int = 100, **more):
    config = {"use_vllm": True, "vllm_mode": "server", "vllm_server_base_url": at, "vllm_server_timeout": 1.0}
    vllm.check_server(SimpleNamespace(**config | more), str(STARTER_FOLDER), "starter", tokens)


def test_a_server_that_serves_the_model_is_taken(capsys):
    for name in (str(STARTER_FOLDER), f"hub/{STARTER_FOLDER.name}", "starter"):
        with Server(name) as server:
            ask(server.at)
            ask(f"{server.at}/")
    assert capsys.readouterr().out == ""


def test_a_server_that_cannot_serve_this_run_is_refused():
    def said(server):
        with server, pytest.raises(InputError) as error:
            ask(server.at)
        return str(error.value)

    command = f"`trl vllm-serve --model {STARTER_FOLDER} --port "
    other = said(Server("Qwen/Qwen2.5-0.5B"))
    assert f"serves Qwen/Qwen2.5-0.5B, and {STARTER_FOLDER} is trained: restart it by {command}" in other
    name = str(STARTER_FOLDER)
    for lacks in ({"server_info": None}, {"server_info": {"vllm_config": {"weight_transfer_config": None}}}):
        assert f"takes no weights from a trainer: restart it by {command}" in said(Server(name, **lacks))
    short = {"data": [{"id": name, "max_model_len": 50}]}
    assert "reads and writes 50 tokens, and the longest prompt with its completion is 100" in said(
        Server(name, v1__models=short)
    )
    assert "is no vLLM server" in said(Server(name, v1__models={"models": []}))


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_where_no_server_answers_it_is_said_at_once_and_how_one_is_started(installed, capsys, write_jsonl, problems):
    port, rows = free_port(), write_jsonl(problems(40))
    flags = ["--vllm_server_host", "127.0.0.1", "--vllm_server_port", str(port), "--vllm_server_timeout", "1"]
    with pytest.raises(SystemExit) as stop:
        grpo.main([*SERVER, "--task", "gsm8k", "--dataset_name", str(rows), "--model_name_or_path", "starter", *flags])
    out, err = capsys.readouterr()
    command = f"trl vllm-serve --model {STARTER_FOLDER} --port {port}"
    assert stop.value.code == 2 and "Traceback" not in err
    waiting = f"Waiting up to 1 seconds for vLLM at http://127.0.0.1:{port} (nothing answers); it is started by: "
    assert waiting + command in out
    assert f"error: No vLLM server at http://127.0.0.1:{port} after 1 seconds (nothing answers)" in err
    with pytest.raises(requests.ConnectionError):  # TRL would not have reached it either
        VLLMClient.check_server(SimpleNamespace(base_url=f"http://127.0.0.1:{port}"))


def test_a_server_that_is_still_starting_is_waited_for(monkeypatch, capsys):
    monkeypatch.setattr(vllm, "ASK_EVERY", 0.1)
    port, server = free_port(), Server("x")

    def serve():
        with HTTPServer(("127.0.0.1", port), server.server.RequestHandlerClass) as late:
            late.handle_request()

    threading.Timer(0.5, serve).start()
    vllm.wait_for_server(f"http://127.0.0.1:{port}", "COMMAND", timeout=20)
    server.server.server_close()
    assert capsys.readouterr().out.count("it is started by: COMMAND") == 1
    with Server("x", health=None) as loading, pytest.raises(InputError, match="it answers 404"):
        vllm.wait_for_server(loading.at, "COMMAND", timeout=0.2)
    with pytest.raises(InputError, match="is no address"):
        vllm.wait_for_server("localhost:8000", "COMMAND", timeout=0.2)


def test_trls_own_client_finds_in_the_server_what_is_asked_of_it():
    with Server("a/model") as server:
        client = SimpleNamespace(base_url=server.at, session=requests.Session(), host="")
        VLLMClient.check_server(client)
        assert VLLMClient.get_server_info(client)["weight_transfer_config"] == {"backend": "nccl"}
        assert VLLMClient._get(client, f"{server.at}/v1/models")["data"][0]["id"] == "a/model"


@pytest.mark.filterwarnings("ignore")
def test_the_command_that_is_named_starts_a_server_that_takes_weights():
    words = vllm.server_command("a/model", "http://node1:8001").split()
    assert words[:2] == ["trl", "vllm-serve"]
    arguments, rest = vllm_serve.make_parser().parse_args_and_config(words[2:], return_remaining_strings=True)
    command = vllm_serve.build_command(arguments, rest)
    assert "--weight-transfer-config" in command and command[command.index("--port") + 1] == "8001"
    assert not rest and command[command.index("serve") + 1] == "a/model"
    assert vllm.server_command("a/model", "http://node1:8000") == "trl vllm-serve --model a/model"


def checked(*flags):
    parser = RecipeParser("grpo", grpo.GRPODefaults, QLoRA, "")
    argv = ["--task", "gsm8k", "--dataset_name", "./rows.jsonl", "--model_name_or_path", "starter", "--bf16=False"]
    task, args, config, model_args = parser.parse([*argv, "--load_in_4bit", "False", *flags], GPU)
    preflight(args, config, model_args, task, GPU)
    return config


def test_what_vllm_reserves_beside_the_model_is_counted(installed, capsys, write_jsonl, problems):
    write_jsonl(problems(40))
    config = checked("--use_vllm")
    assert " and 7.2 for vLLM (--vllm_gpu_memory_utilization) of 23.0 GB free" in capsys.readouterr().out
    assert 48 < config.vllm_max_model_length < 200  # the longest prompt and a whole completion
    checked("--use_vllm", "--vllm_gpu_memory_utilization", "0.95", "--vllm_max_model_length", "512")
    assert "GB more than is free. Lower --vllm_gpu_memory_utilization or " in capsys.readouterr().out
    with pytest.raises(InputError, match=r"1e-05 of 24\.0 GB is 0\.0 GB, and vLLM's copy of the weights"):
        checked("--use_vllm", "--vllm_gpu_memory_utilization", "1e-5")
    checked()
    assert "for vLLM" not in capsys.readouterr().out


class WithoutVLLM(VLLMGeneration):
    """TRL's own, whose engine is a second copy of the base model: it writes by the weights that TRL has handed it."""

    def _init_vllm(self):
        self.copy = AutoModelForCausalLM.from_pretrained(STARTER_FOLDER).eval()
        runner = SimpleNamespace(model=SimpleNamespace(load_weights=self.load_weights))
        worker = SimpleNamespace(driver_worker=SimpleNamespace(model_runner=runner))
        engine = SimpleNamespace(model_executor=worker)
        self.llm = SimpleNamespace(llm_engine=engine, reset_prefix_cache=lambda: None)

    def load_weights(self, weights):
        for name, value in weights:
            self.copy.get_parameter(name).data.copy_(value)

    @torch.no_grad()
    def generate(self, prompts, images, num_generations, profiler=None):
        completions, logprobs = [], []
        for prompt in prompts:
            tokens = self.copy.generate(
                torch.tensor([prompt]), do_sample=True, top_k=0, max_new_tokens=self.max_completion_length
            )[0]
            scores = self.copy(tokens[None]).logits[0].log_softmax(-1)[len(prompt) - 1 : -1]
            written = tokens[len(prompt) :]
            completions.append(written.tolist())
            logprobs.append(scores.gather(1, written[:, None]).tolist())
        return prompts, completions, logprobs, None


@pytest.mark.parametrize("form", ["grpo", "adapter", "shared"])
def test_the_weights_that_trl_hands_over_are_the_policys_and_no_other_adapters(monkeypatch, form):
    monkeypatch.setattr("trl.trainer.grpo_trainer.VLLMGeneration", WithoutVLLM)
    settings = {"use_vllm": True, "max_steps": 3, "learning_rate": 3e-2}
    if form == "grpo":
        settings |= {"use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no", "logging_steps": 1}
        trainer = GRPOTrainer(
            model=str(STARTER_FOLDER),
            reward_funcs=ppo_two_processes.judge,
            args=GRPOConfig("out", max_completion_length=12, beta=0.1, **settings),
            train_dataset=Dataset.from_list(ppo_two_processes.ROWS),
            peft_config=ppo_two_processes.lora(),
        )
    else:
        trainer = ppo_two_processes.make(critic=form, **settings)
        ppo_two_processes.perturb(trainer)  # the critic's adapter too
    base = {name: p.detach().clone() for name, p in trainer.model.named_parameters() if "base_layer" in name}
    trainer.train()
    steps = ppo_two_processes.steps(trainer)
    assert len(steps) == 3
    for step in steps:  # what wrote and what is trained agree on every token, after each step
        assert step["sampling/sampling_logp_difference/max"] < 1e-3
        assert step["sampling/importance_sampling_ratio/mean"] == pytest.approx(1, abs=1e-3)
    copy = trainer.vllm_generation.copy
    untrained = AutoModelForCausalLM.from_pretrained(STARTER_FOLDER)
    key = "model.layers.0.self_attn.q_proj.weight"
    assert (copy.get_parameter(key) - untrained.get_parameter(key)).abs().max() > 1e-3
    for name, weight in base.items():
        torch.testing.assert_close(trainer.model.get_parameter(name).data, weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kept", [True, False])
def test_merging_for_vllm_leaves_the_base_as_it_was(kept):
    model = AutoModelForCausalLM.from_pretrained(STARTER_FOLDER, dtype=torch.bfloat16)
    model = get_peft_model(model, ppo_two_processes.lora())
    if kept:
        vllm.keep_base(model)
    named = dict(model.named_parameters())
    base = {name: p.detach().clone() for name, p in named.items() if "base_layer" in name}
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        for name, parameter in named.items():
            if "lora_B" in name:
                parameter.data += 1e-3 * torch.randn(parameter.shape, generator=generator)
        model.merge_adapter()
        assert any(not torch.equal(named[name], weight) for name, weight in base.items())
        model.unmerge_adapter()
    assert all(torch.equal(named[name], weight) for name, weight in base.items()) == kept
