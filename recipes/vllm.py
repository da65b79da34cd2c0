"""vLLM writes the completions of training (--use_vllm): what it needs, checked before anything slow.

TRL drives it: in the process that trains and on the same GPU (--vllm_mode colocate, the default), or as a server on
other GPUs (--vllm_mode server), to which the weights are sent after every step.
"""

import shlex
import time
from pathlib import Path
from urllib.parse import urlsplit

import requests
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from trl.import_utils import is_vllm_available

from recipes.errors import InputError, did_you_mean, one_line
from recipes.memory import weights_gb, without_weights
from recipes.processes import count, is_first, shard

MODES = ("colocate", "server")
CORRECTIONS = ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask")
INSTALL = "pip install 'trl[vllm]'"
ANSWER_WITHIN, ASK_EVERY = 5, 2  # seconds


def check_vllm_settings(settings: dict) -> None:
    """Raises `InputError` for what the flags of a trainer alone show to be wrong."""
    mode = settings["vllm_mode"]
    if not settings["use_vllm"]:
        if mode != "colocate":
            raise InputError(f"--vllm_mode {mode} has no effect without --use_vllm: add it.")
        return
    if settings["use_cpu"]:
        raise InputError("--use_vllm needs a CUDA GPU to train with, and none is in use here: drop the flag.")
    for bits in (4, 8):
        if settings[f"load_in_{bits}bit"]:
            raise InputError(
                f"{bits}-bit weights and vLLM do not go together in TRL: add --load_in_{bits}bit False, or drop "
                "--use_vllm."
            )
    for name, known in (("vllm_mode", MODES), ("vllm_importance_sampling_mode", CORRECTIONS)):
        if settings[name] not in known:
            hint = did_you_mean(settings[name], known)
            raise InputError(f"Unknown --{name} {settings[name]!r}.{hint} One of {', '.join(known)}.")
    if not 0 < settings["vllm_gpu_memory_utilization"] <= 1:
        share = settings["vllm_gpu_memory_utilization"]
        raise InputError(f"--vllm_gpu_memory_utilization {share}: give a share of the GPU's memory, up to 1.")
    parts = settings["vllm_tensor_parallel_size"]
    if mode == "colocate" and (parts < 1 or count() % parts):
        raise InputError(
            f"--vllm_tensor_parallel_size {parts} does not divide the {count()} processes: vLLM runs inside of them, "
            "so give 1, or launch as many."
        )
    if not is_vllm_available():
        also = ", also where a server writes the completions" if mode == "server" else ""
        raise InputError(f"--use_vllm needs vLLM{also}: {INSTALL}, or drop the flag.")


def in_this_process(config) -> bool:
    return getattr(config, "use_vllm", False) and getattr(config, "vllm_mode", None) == "colocate"


def reserved_gb(config, machine) -> float:
    """What vLLM takes of the GPU's memory for itself, in GB."""
    return config.vllm_gpu_memory_utilization * machine.card_gb if in_this_process(config) else 0.0


def check_share(model_config, model_args, config, machine) -> None:
    """Raises `InputError` where vLLM's share of the GPU does not even hold its own copy of the weights."""
    share = reserved_gb(config, machine)
    model = without_weights(model_config, config.trust_remote_code) if share else None
    weights = weights_gb(model, model_args) / config.vllm_tensor_parallel_size if model is not None else 0.0
    if weights >= share > 0:
        raise InputError(
            f"--vllm_gpu_memory_utilization {config.vllm_gpu_memory_utilization} of {machine.card_gb:.1f} GB is "
            f"{share:.1f} GB, and vLLM's copy of the weights alone takes {weights:.1f} GB: raise it, or take a smaller "
            "model."
        )


def keep_base(model) -> None:
    """Let the base model be the same after every merge: TRL merges the adapter for vLLM, and takes it out again.

    In 16 bits what is left is not what was there: after 200 merges of an adapter that grows, on the miniature, noise of
    a fifth of the adapter's own change, and the saved adapter does not come with that. The copy is in main memory.
    """
    if not isinstance(model, PeftModel) or shard():
        return
    weights = [layer.get_base_layer().weight for layer in model.modules() if isinstance(layer, LoraLayer)]
    kept = [weight.detach().to("cpu", copy=True) for weight in weights]
    unmerge = model.unmerge_adapter

    def unmerge_and_restore() -> None:
        unmerge()
        for weight, value in zip(weights, kept, strict=True):
            weight.data.copy_(value)

    model.unmerge_adapter = unmerge_and_restore


def server_command(model: str, url: str) -> str:
    """How the server is started that TRL expects at `url`."""
    port = urlsplit(url).port or 80
    return f"trl vllm-serve --model {shlex.quote(model)}" + (f" --port {port}" if port != 8000 else "")


def check_server(config, base: str, name: str, tokens: int) -> None:
    """Waits for the server of `--vllm_mode server`, `--vllm_server_timeout` seconds; the first process does it for all.

    Raises `InputError` where none answers, or one that cannot serve this run.

    Args:
        base (`str`): the model whose weights are trained, or that the adapter belongs to.
        name (`str`): what the user calls it.
        tokens (`int`): the longest prompt and completion together.
    """
    if not (getattr(config, "use_vllm", False) and config.vllm_mode == "server" and is_first()):
        return
    url = (config.vllm_server_base_url or f"http://{config.vllm_server_host}:{config.vllm_server_port}").rstrip("/")
    command = server_command(base, url)
    wait_for_server(url, command, config.vllm_server_timeout)
    try:
        served = _ask(url, "v1/models").json()["data"][0]
        about = _ask(url, "server_info", {"config_format": "json"})
        engine = about.json()["vllm_config"]["weight_transfer_config"] if about.ok else None
    except (requests.RequestException, ValueError, LookupError, TypeError) as error:
        why = one_line(error)
        raise InputError(f"What answers at {url} is no vLLM server ({why}): start one by `{command}`.") from error
    names = [served[key] for key in ("id", "root") if served.get(key)]
    if not any(same_model(served_name, base) or served_name == name for served_name in names):
        raise InputError(
            f"The server at {url} serves {' from '.join(dict.fromkeys(names))}, and {base} is trained: restart it by "
            f"`{command}`, or give it --served-model-name {shlex.quote(base)} where the two are the same."
        )
    if engine is None:
        raise InputError(f"The server at {url} takes no weights from a trainer: restart it by `{command}`.")
    longest = served.get("max_model_len")
    if longest and longest < tokens:
        raise InputError(
            f"The server at {url} reads and writes {longest} tokens, and the longest prompt with its completion is "
            f"{tokens}: restart it with --max_model_len {tokens}, or lower --max_completion_length."
        )


def wait_for_server(url: str, command: str, timeout: float) -> None:
    """Returns once a server answers at `url`; raises `InputError` where none does within `timeout` seconds."""
    if not url.startswith(("http://", "https://")):
        raise InputError(f"--vllm_server_base_url {url} is no address: write http:// in front of it.")
    end, waits = time.monotonic() + timeout, False
    while True:
        try:
            answer = _ask(url, "health")
            if answer.ok:
                return
            why = f"it answers {answer.status_code}"
        except requests.RequestException:
            why = "nothing answers"
        left = end - time.monotonic()
        if left <= 0:
            raise InputError(
                f"No vLLM server at {url} after {timeout:g} seconds ({why}): start it on another GPU by `{command}`, "
                "or name its place by --vllm_server_host and --vllm_server_port."
            )
        if not waits:
            print(
                f"Waiting up to {timeout:g} seconds for vLLM at {url} ({why}); it is started by: {command}", flush=True
            )
            waits = True
        time.sleep(min(ASK_EVERY, left))


def _ask(url: str, path: str, query: dict | None = None) -> requests.Response:
    return requests.get(f"{url}/{path}", params=query, timeout=ANSWER_WITHIN)


def same_model(one: str, other: str) -> bool:
    """Whether two names are of one model: alike, one path, or a hub id and the folder that it was downloaded to."""
    return one == other or Path(one).resolve() == Path(other).resolve() or Path(one).name == Path(other).name
