"""A plain, synchronous client of ComfyUI's HTTP and websocket interface."""

from __future__ import annotations

import asyncio
import json
import queue
import struct
import threading
import time
import uuid
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import aiohttp

from .errors import (
    ConnectionLostError,
    LoomError,
    PromptFailedError,
    PromptInterruptedError,
    PromptRejectedError,
)

Prompt = dict[str, dict[str, Any]]
NodeStates = dict[str, dict[str, Any]]
_Result = TypeVar("_Result")

_PREVIEW_WITH_METADATA = 4  # protocol.py's BinaryEventTypes
_HISTORY_INTERVAL = 2.0  # seconds; the websocket usually says so sooner


class ComfyClient:
    """A connection to one running ComfyUI.

    ::

        with ComfyClient(server.url) as client:
            prompt_id = client.queue(prompt)
            entry = client.wait(prompt_id)
            image = entry["outputs"]["9"]["images"][0]
            data = client.view(image["filename"], image["subfolder"], image["type"])

    All methods block. They raise ConnectionLostError where ComfyUI doesn't answer, and LoomError
    where it answers with an error.
    The connection lives in a thread of its own, so a client also works where the calling thread
    runs an event loop already (as Playwright's does).

    Args:
        url: ``http://host:port``.
        timeout: Seconds for one HTTP request; ``wait`` has its own.
    """

    def __init__(self, url: str, timeout: float = 120.0) -> None:
        self.url = url.rstrip("/")
        self.client_id = uuid.uuid4().hex
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._messages: queue.SimpleQueue[dict[str, Any] | bytes | None] = queue.SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        try:
            self._run(self._connect())
        except BaseException:
            self._stop_loop()
            raise

    def __enter__(self) -> ComfyClient:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the client is of no use afterwards. May be repeated."""
        if not self._loop.is_closed():
            self._run(self._disconnect())
            self._stop_loop()

    def object_info(self, node_type: str = "") -> dict[str, Any]:
        """The schemas of all nodes, or of one, by node type."""
        return self._get_json(f"/object_info/{node_type}" if node_type else "/object_info")

    def queue(self, prompt: Prompt, workflow: dict[str, Any] | None = None) -> str:
        """Queue a prompt in API form and return its id.

        Args:
            prompt: ``{node_id: {"class_type", "inputs"}}``.
            workflow: The frontend's form of it, to be embedded in saved files.

        Raises:
            PromptRejectedError: ComfyUI found errors, if only in one node. Nothing runs then.
        """
        body: dict[str, Any] = {"prompt": prompt, "client_id": self.client_id}
        if workflow is not None:
            body["extra_data"] = {"extra_pnginfo": {"workflow": workflow}}
        status, data = self._request("POST", "/prompt", json=body)
        answer = _parse(data)
        if status != 200 or answer.get("node_errors"):
            if prompt_id := answer.get("prompt_id"):  # the outputs without errors would run
                self.cancel(prompt_id)
            error = answer.get("error")
            if not isinstance(error, dict):
                error = {"message": str(error)} if error else {}
            raise PromptRejectedError(error, answer.get("node_errors") or {})
        return str(answer["prompt_id"])

    def wait(
        self,
        prompt_id: str,
        on_progress: Callable[[NodeStates], None] | None = None,
        on_preview: Callable[[bytes, dict[str, Any]], None] | None = None,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        """Wait until a prompt is done and return its history entry (``outputs``, ``status``, ...).

        Args:
            prompt_id: What ``queue`` returned.
            on_progress: Called at every ``progress_state`` message with the nodes that have
                started: ``{node_id: {"state": "running" | "finished" | "error", "value", "max",
                "display_node_id", ...}}``.
            on_preview: Called at every preview image with the encoded image and its metadata
                (``node_id``, ``prompt_id``, ``image_type``, ...).
            timeout: Seconds until giving up; None waits for as long as it takes.

        Raises:
            PromptFailedError: A node raised an exception.
            PromptInterruptedError: It was interrupted.
            ConnectionLostError: ComfyUI ended.
            LoomError: The time is over.
        """
        deadline = time.monotonic() + (timeout if timeout is not None else float("inf"))
        entry = self.history(prompt_id)
        while entry is None:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise LoomError(f"The workflow did not finish within {timeout:.0f} seconds.")
            try:
                message = self._messages.get(timeout=min(_HISTORY_INTERVAL, remaining))
            except queue.Empty:
                entry = self.history(prompt_id)
                continue
            if message is None:
                self._messages.put(None)  # for the next call
                raise ConnectionLostError(f"The connection to ComfyUI at {self.url} was lost.")
            if isinstance(message, bytes):
                _pass_on_preview(message, prompt_id, on_preview)
            elif message.get("data", {}).get("prompt_id") == prompt_id:
                if message["type"] == "progress_state" and on_progress is not None:
                    on_progress(message["data"]["nodes"])
                if message["type"] == "executing" and message["data"]["node"] is None:
                    entry = self.history(prompt_id)
        _raise_for_status(entry)
        return entry

    def history(self, prompt_id: str) -> dict[str, Any] | None:
        """The history entry of a prompt; None while it isn't done."""
        return self._get_json(f"/history/{prompt_id}").get(prompt_id)

    def interrupt(self, prompt_id: str | None = None) -> None:
        """Interrupt what runs now, or only the named prompt."""
        self._post("/interrupt", {"prompt_id": prompt_id} if prompt_id else {})

    def cancel(self, prompt_id: str) -> None:
        """Take a prompt out of the queue, or interrupt it where it runs already."""
        self._post("/queue", {"delete": [prompt_id]})
        self.interrupt(prompt_id)

    def free(self, unload_models: bool = True, free_memory: bool = True) -> None:
        """Unload the models and, with ``free_memory``, forget all cached results as well."""
        self._post("/free", {"unload_models": unload_models, "free_memory": free_memory})

    def view(self, filename: str, subfolder: str = "", type: str = "output") -> bytes:
        """A file of ComfyUI's output, temp or input folder."""
        params = {"filename": filename, "subfolder": subfolder, "type": type}
        status, data = self._request("GET", "/view", params=params)
        if status != 200:
            raise LoomError(f"ComfyUI has no file '{filename}' in its {type} folder.")
        return data

    def _get_json(self, path: str) -> dict[str, Any]:
        status, data = self._request("GET", path)
        if status != 200:
            raise LoomError(f"ComfyUI answered GET {path} with HTTP {status}.")
        return _parse(data)

    def _post(self, path: str, body: dict[str, Any]) -> None:
        status, _ = self._request("POST", path, json=body)
        if status != 200:
            raise LoomError(f"ComfyUI answered POST {path} with HTTP {status}.")

    def _request(self, method: str, path: str, **content: Any) -> tuple[int, bytes]:
        return self._run(self._send(method, path, **content))

    async def _send(self, method: str, path: str, **content: Any) -> tuple[int, bytes]:
        async with self._session.request(method, self.url + path, **content) as response:
            return response.status, await response.read()

    async def _connect(self) -> None:
        self._session = aiohttp.ClientSession(timeout=self._timeout)
        try:
            # 0: a preview of many frames may be larger than aiohttp's 4 MiB.
            socket = await self._session.ws_connect(
                f"{self.url}/ws", params={"clientId": self.client_id}, max_msg_size=0
            )
            # ComfyUI reads the feature flags from the first message only.
            features = {"supports_preview_metadata": True}
            await socket.send_json({"type": "feature_flags", "data": features})
        except BaseException:
            await self._session.close()
            raise
        self._listener = asyncio.create_task(self._listen(socket))

    async def _listen(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Read on all the time: a client that doesn't would in the end hold the server up."""
        try:
            async for message in socket:
                if message.type == aiohttp.WSMsgType.TEXT:
                    self._messages.put(json.loads(message.data))
                elif message.type == aiohttp.WSMsgType.BINARY:
                    self._messages.put(message.data)
        finally:
            self._messages.put(None)

    async def _disconnect(self) -> None:
        self._listener.cancel()
        await asyncio.gather(self._listener, return_exceptions=True)
        await self._session.close()

    def _run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except (aiohttp.ClientError, asyncio.TimeoutError) as error:
            reason = str(error) or type(error).__name__
            message = f"ComfyUI at {self.url} doesn't answer: {reason}."
            raise ConnectionLostError(message) from error

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _parse(data: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(data)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        text = data[:200].decode(errors="replace")
        raise LoomError(f"ComfyUI's answer is not JSON as expected: {text}")
    return answer


def _pass_on_preview(
    message: bytes, prompt_id: str, on_preview: Callable[[bytes, dict[str, Any]], None] | None
) -> None:
    """Take apart a preview: big-endian event type, length of the metadata, metadata, image."""
    if on_preview is None or len(message) < 8:
        return
    event, length = struct.unpack(">II", message[:8])
    if event != _PREVIEW_WITH_METADATA:
        return
    metadata = json.loads(message[8 : 8 + length])
    if metadata.get("prompt_id") == prompt_id:
        on_preview(message[8 + length :], metadata)


def _raise_for_status(entry: dict[str, Any]) -> None:
    status = entry.get("status") or {}
    for event, data in status.get("messages", []):
        if event == "execution_error":
            raise PromptFailedError(data)
        if event == "execution_interrupted":
            raise PromptInterruptedError
    if status.get("status_str") == "error":
        raise LoomError("ComfyUI could not run the workflow and gives no reason.")
