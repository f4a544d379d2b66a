"""A stand-in for W&B's server: it takes what a client sends, and remembers it."""
# ruff: noqa: N802, N815 - the methods are named as the operations that they answer

import base64
import gzip
import http.server
import json
import re
import threading


class WandbServer:
    """Runs, histories, artifacts with their producers, and uses, as they were sent; `refuses` is the HTTP status that everything gets instead."""

    def __init__(self, refuses=None):
        self.refuses = refuses
        self.runs, self.history, self.artifacts, self.clients, self.made, self.used = {}, {}, {}, {}, [], []
        self.lock = threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                content = self.rfile.read(int(self.headers.get("content-length") or 0))
                if self.headers.get("content-encoding") == "gzip":
                    content = gzip.decompress(content)
                with outer.lock:
                    reply = json.dumps(outer.answer(self.path, content)).encode()
                self.send_response(outer.refuses or 200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            do_GET = do_PUT = do_POST

            def log_message(self, *words):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.server.handle_error = lambda *given: None  # a client that has gone
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, path, content):
        if self.refuses:
            return {"errors": [{"message": "not logged in"}]}
        if path == "/graphql":
            asked = json.loads(content)
            operation = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"]).group(1)
            given = asked.get("variables") or {}
            return {"data": getattr(self, operation, lambda given: {})(given)}
        if path.endswith("/file_stream"):
            history = json.loads(content).get("files", {}).get("wandb-history.jsonl")
            rows = self.history.setdefault(path.split("/")[4], {})
            for place, line in enumerate(history["content"] if history else []):
                rows[history["offset"] + place] = json.loads(line)
        return {}

    def RunResumeStatus(self, given):
        rows = self.history.get(given["name"], {})
        bucket = None
        if given["name"] in self.runs:
            bucket = {
                "id": "b", "name": given["name"], "displayName": given["name"], "summaryMetrics": "{}", "config": "{}",
                "logLineCount": 0, "eventsLineCount": 0, "historyLineCount": len(rows), "eventsTail": "[]", "tags": [],
                "historyTail": json.dumps([json.dumps(rows[max(rows)])] if rows else []), "wandbConfig": '{"t": {}}',
            }  # fmt: skip
        entity = {"id": "e", "name": "someone"}
        return {"model": {"id": "p", "name": given["project"], "entity": entity, "bucket": bucket}}

    def UpsertBucket(self, given):
        self.runs.setdefault(given["name"], {}).update({key: value for key, value in given.items() if value is not None})
        project = {"id": "p", "name": given.get("project"), "entity": {"id": "e", "name": "someone"}}
        bucket = {
            "id": "b", "name": given["name"], "displayName": given["name"], "description": "", "config": "{}",
            "sweepName": None, "historyLineCount": 0, "project": project,
        }  # fmt: skip
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def CreateRunFiles(self, given):
        files = [{"name": name, "uploadUrl": f"{self.url}/upload"} for name in given["files"]]
        return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}

    def ArtifactType(self, given):
        return {"project": None}  # no artifact of that name yet

    def CreateArtifact(self, given):
        wanted = given["input"]
        name = f"{wanted['artifactCollectionName']}:{wanted['digest']}"
        known = name in self.artifacts
        if wanted.get("runName"):
            self.made.append((name, wanted["runName"]))
        identity = base64.b64encode(f"Artifact:{name}".encode()).decode()
        self.artifacts[name] = json.loads(wanted["metadata"]) if wanted.get("metadata") else {}
        self.clients[wanted["clientID"]] = identity
        state, sequence = "COMMITTED" if known else "PENDING", {"id": "s", "latestArtifact": None}
        return {"createArtifact": {"artifact": {"id": identity, "state": state, "artifactSequence": sequence}}}

    def CreateArtifactManifest(self, given):
        file = {"id": "f", "name": "m", "displayName": "m", "uploadUrl": f"{self.url}/upload", "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": "m", "file": file}}}

    def CreateArtifactFiles(self, given):
        specs = given.get("input", given)["artifactFiles"]
        nodes = [
            {
                "id": "f", "name": spec["name"], "displayName": spec["name"], "storagePath": "x", "uploadHeaders": [],
                "uploadUrl": f"{self.url}/upload", "uploadMultipartUrls": None, "artifact": {"id": spec["artifactID"]},
            }
            for spec in specs
        ]  # fmt: skip
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def ClientIDMapping(self, given):
        found = self.clients.get(given["clientID"])
        return {"clientIDMapping": {"serverID": found} if found else None}

    def CommitArtifact(self, given):
        return {"commitArtifact": {"artifact": {"id": given["artifactID"], "digest": "d"}}}

    def UseArtifact(self, given):
        name = base64.b64decode(given["input"]["artifactID"]).decode().removeprefix("Artifact:")
        self.used.append((name, given["input"]["runName"]))
        fields = {"digest": "d", "description": "", "state": "COMMITTED", "createdAt": "", "metadata": "{}"}
        return {"useArtifact": {"artifact": {"id": given["input"]["artifactID"], **fields}}}

    def Viewer(self, given):
        teams = {"edges": []}
        return {"viewer": {"id": "u", "entity": "someone", "username": "someone", "flags": "{}", "teams": teams}}
