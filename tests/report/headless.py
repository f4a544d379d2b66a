"""A page in headless Chromium: what it prints to the console, what it asks the network for, and what a script finds in it."""

import asyncio
import base64
import contextlib
import re
import shutil
from pathlib import Path

import aiohttp

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
)


class Browser:
    """One page of one browser, by the DevTools protocol."""

    def __init__(self, socket):
        self.socket, self.number = socket, 0
        self.errors, self.addresses = [], []

    async def ask(self, method, **parameters):
        self.number += 1
        await self.socket.send_json({"id": self.number, "method": method, "params": parameters})
        while True:
            heard = await self.socket.receive_json(timeout=300)
            self._hear(heard)
            if heard.get("id") == self.number:
                if "error" in heard:
                    raise RuntimeError(f"{method}: {heard['error']}")
                return heard["result"]

    async def open(self, path, width, height=1000, dark=False):
        await self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        theme = "dark" if dark else "light"
        await self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        await self.ask("Page.navigate", url=Path(path).resolve().as_uri())
        for _ in range(600):
            if await self.run("document.readyState") == "complete":
                return
            await asyncio.sleep(0.05)
        raise TimeoutError(f"{path} did not load")

    async def run(self, script):
        found = await self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(str(found["exceptionDetails"]))
        return found["result"].get("value")

    async def picture(self, path, whole=True):
        shot = await self.ask("Page.captureScreenshot", captureBeyondViewport=whole)
        Path(path).write_bytes(base64.b64decode(shot["data"]))

    def _hear(self, heard):
        method, told = heard.get("method"), heard.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.errors.append(str(told["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.errors.append(str(told["args"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.errors.append(told["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.addresses.append(told["request"]["url"][:100])


@contextlib.asynccontextmanager
async def browser(profile):
    """A browser that is gone afterwards; its profile is kept in the given folder."""
    started = await asyncio.create_subprocess_exec(
        CHROMIUM, *_FLAGS, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank",
        stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        address = await asyncio.wait_for(_address(started.stderr), 300)
        draining = asyncio.create_task(_drain(started.stderr))
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://{address}/json/list") as listed:
                target = next(each for each in await listed.json() if each["type"] == "page")
            async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                page = Browser(socket)
                for domain in ("Page", "Runtime", "Log", "Network"):
                    await page.ask(f"{domain}.enable")
                yield page
        draining.cancel()
    finally:
        with contextlib.suppress(ProcessLookupError):
            started.kill()
        await started.wait()


async def _address(stream):
    while line := await stream.readline():
        if found := re.search(rb"ws://([^/]+)/", line):
            return found[1].decode()
    raise RuntimeError("the browser did not start")


async def _drain(stream):
    while await stream.read(65536):
        pass
