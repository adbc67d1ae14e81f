"""A stand-in for the part of W&B that sweeps talk to: it answers on the loopback interface what W&B's client asks."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml


class SweepServer(ThreadingHTTPServer):
    """Knows one sweep, hands out the trials that it is given, one after the other, then tells the agent to go.

    Args:
        trials: id of the W&B run -> sampled values.

    Attributes:
        sweep: configuration of the sweep, as W&B stores it; None: not created yet.
        agents: what agents said about themselves.
        requests: name of the operation and variables of each request.
        unknown: requests that it could not answer.
    """

    daemon_threads = True

    def __init__(self, trials: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.waiting = list(trials.items())
        self.sweep: dict[str, Any] | None = None
        self.agents: list[dict[str, Any]] = []
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.unknown: list[str] = []

    @property
    def environment(self) -> dict[str, str]:
        """What leads W&B's client here."""
        host, port = self.server_address[:2]
        return {"WANDB_BASE_URL": f"http://{host!s}:{port}", "WANDB_API_KEY": "0" * 40}

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any] | None:
        """The ``data`` of an answer; None if the question is not known."""
        name = next((name for name in _OPERATIONS if f"{name}(" in query), "viewer" if "viewer" in query else "?")
        self.requests.append((name, variables))
        match name:
            case "upsertSweep":
                self.sweep = yaml.safe_load(variables["config"])
                project = {"id": "p", "name": variables["projectName"], "entity": {"id": "e", "name": "tester"}}
                return {
                    "upsertSweep": {"sweep": {"name": "sweep1", "project": project}, "configValidationWarnings": []}
                }
            case "sweep":
                known = self.sweep is not None and variables["sweep"] == "sweep1"
                found = {"id": "s", "name": "sweep1", "config": yaml.safe_dump(self.sweep), "runs": {"edges": []}}
                return {"project": {"sweep": found if known else None}}
            case "createAgent":
                self.agents.append(variables)
                return {"createAgent": {"agent": {"id": "agent1"}}}
            case "agentHeartbeat":
                commands = self._commands(json.loads(variables["runState"]))
                return {"agentHeartbeat": {"agent": {"id": "agent1"}, "commands": json.dumps(commands)}}
            case "viewer":
                viewer = {"id": "v", "entity": "tester", "username": "tester", "flags": "{}", "teams": {"edges": []}}
                return {"viewer": viewer, "serverInfo": None}
        self.unknown.append(query)
        return None

    def _commands(self, running: Mapping[str, Any]) -> list[dict[str, Any]]:
        if running:
            return []
        if not self.waiting:
            return [{"type": "exit"}]
        run_id, values = self.waiting.pop(0)
        arguments = {key: {"value": value} for key, value in values.items()}
        return [{"type": "run", "run_id": run_id, "program": None, "args": arguments}]


_OPERATIONS = ("upsertSweep", "createAgent", "agentHeartbeat", "sweep")


class _Handler(BaseHTTPRequestHandler):
    server: SweepServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        data = self.server.answer(body["query"], body.get("variables") or {})
        answer = {"data": data} if data is not None else {"errors": [{"message": "not known to the stand-in"}]}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


@contextmanager
def sweep_server(trials: Mapping[str, Mapping[str, Any]]) -> Iterator[SweepServer]:
    """Run the stand-in in a thread."""
    with SweepServer(trials) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
