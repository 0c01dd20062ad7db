#!/usr/bin/env python3
"""Looks at the status page with a headless Chromium, and does what it is told on stdin.

Each line is a JSON list: ["open", url], ["size", width, height], ["colours", "dark" or "light"],
["wait", expression, seconds], ["tell", expression], ["picture", file], ["scripts", true or false], ["heap"] in bytes,
["violations"]: the errors of the page so far.
Each is answered with one line of JSON: {"ok": value} or {"error": text}. Chromium is spoken to through a pipe; nothing
else listens.
"""

import base64
import json
import os
import select
import subprocess
import sys
import tempfile
import time


class Browser:
    def __init__(self, binary, folder):
        # Chromium reads commands from 3 and writes answers to 4.
        read_here, write_there = os.pipe()
        read_there, write_here = os.pipe()

        def as_3_and_4():
            there = [os.dup2(read_there, 70), os.dup2(write_there, 71)]
            os.dup2(there[0], 3)
            os.dup2(there[1], 4)

        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
                 "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
                 "--remote-debugging-pipe", f"--user-data-dir={folder}", "about:blank"]
        log = open(os.path.join(folder, "log"), "wb")
        self.process = subprocess.Popen([binary, *flags], preexec_fn=as_3_and_4, close_fds=False,
                                        stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        os.close(read_there)
        os.close(write_there)
        self.read, self.write, self.rest, self.number = read_here, write_here, b"", 0
        self.session = None
        self.violations = []
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ["Page", "Runtime", "Network", "Log"]:
            self.call(f"{domain}.enable")

    def message(self, deadline):
        while b"\0" not in self.rest:
            ready = select.select([self.read], [], [], max(0, deadline - time.monotonic()))[0]
            data = os.read(self.read, 1 << 20) if ready else b""
            if not data:
                raise TimeoutError("Chromium does not answer")
            self.rest += data
        text, self.rest = self.rest.split(b"\0", 1)
        message = json.loads(text)
        # What the page did wrong is told there.
        if message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
            self.violations.append(message["params"]["entry"]["text"])
        if message.get("method") == "Runtime.exceptionThrown":
            self.violations.append(json.dumps(message["params"]["exceptionDetails"]))
        return message

    def call(self, method, **params):
        self.number += 1
        call = {"id": self.number, "method": method, "params": params}
        if self.session:
            call["sessionId"] = self.session
        os.write(self.write, json.dumps(call).encode() + b"\0")
        deadline = time.monotonic() + 30
        while True:
            answer = self.message(deadline)
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def tell(self, expression):
        told = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in told:
            raise RuntimeError(json.dumps(told["exceptionDetails"]))
        return told["result"].get("value")

    def wait(self, expression, seconds):
        deadline = time.monotonic() + seconds
        while not (value := self.tell(expression)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not true: {expression}\n{self.tell('document.body.innerText')}")
            time.sleep(0.1)
        return value

    def picture(self, file):
        # The whole page, however long it is.
        taken = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        with open(file, "wb") as out:
            out.write(base64.b64decode(taken["data"]))

    def do(self, what, *given):
        if what == "open":
            return self.call("Page.navigate", url=given[0]).get("errorText")
        if what == "size":
            mobile = given[0] < 600
            return self.call("Emulation.setDeviceMetricsOverride", width=given[0], height=given[1],
                             deviceScaleFactor=1, mobile=mobile)
        if what == "colours":
            feature = {"name": "prefers-color-scheme", "value": given[0]}
            return self.call("Emulation.setEmulatedMedia", features=[feature])
        if what == "scripts":
            return self.call("Emulation.setScriptExecutionDisabled", value=not given[0])
        if what == "wait":
            return self.wait(*given)
        if what == "tell":
            return self.tell(*given)
        if what == "picture":
            return self.picture(*given)
        if what == "heap":
            self.call("HeapProfiler.collectGarbage")
            return self.call("Runtime.getHeapUsage")["usedSize"]
        if what == "violations":
            return self.violations
        raise ValueError(what)


def main():
    with tempfile.TemporaryDirectory(prefix="metawatch-browser-") as folder:
        browser = Browser(sys.argv[1], folder)
        try:
            for line in sys.stdin:
                try:
                    answer = {"ok": browser.do(*json.loads(line))}
                except Exception as error:
                    answer = {"error": f"{type(error).__name__}: {error}"}
                print(json.dumps(answer), flush=True)
        finally:
            browser.process.terminate()
            browser.process.wait(10)
            time.sleep(0.2)


main()
