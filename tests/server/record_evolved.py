"""Record what AnimateDiff-Evolved gives for ``evolved_cases.py``, for tests/server/test_same_as_evolved.py.

Run aside, against a ComfyUI 0.30.0 that has ComfyUI-AnimateDiff-Evolved d8d163c (1.5.7) as its one custom node, and the files that
``evolved_cases.write_models``, with ``for_evolved``, and ``write_unet`` write. Of that pack's code, which is not part of this repository, a few lines
are changed in a copy, so that it takes motion models of one level with one layer less, as the demo's is, and a UNet without a
middle block.

    python tests/server/record_evolved.py http://127.0.0.1:8188
"""

from __future__ import annotations

import json
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import safetensors.torch
from evolved_cases import cases


def ask(path: str, body: object = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(sys.argv[1] + path, data, {"Content-Type": "application/json"})) as answer:
        return answer.read()


def run(prompt: dict) -> bytes:
    number = json.loads(ask("/prompt", {"prompt": prompt}))["prompt_id"]
    while number not in (history := json.loads(ask(f"/history/{number}"))):
        time.sleep(0.2)
    if "saved" not in history[number]["outputs"]:
        raise SystemExit(json.dumps(history[number]["status"], indent=1))
    (saved,) = history[number]["outputs"]["saved"]["latents"]
    return ask("/view?" + urllib.parse.urlencode(saved))


if __name__ == "__main__":
    path = Path(__file__).with_name("evolved_latents.safetensors")
    latents = safetensors.torch.load_file(path) if path.exists() else {}
    for name, prompt in cases():
        if name not in latents:
            latents[name] = safetensors.torch.load(run(prompt))["latent_tensor"]
            safetensors.torch.save_file(latents, path)
