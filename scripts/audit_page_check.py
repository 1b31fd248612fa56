#!/usr/bin/env python3
"""Labels the page of an audit in a headless Chromium, as a person would, and fails where something is wrong.

    python scripts/made_up_runs.py /tmp/made-up --items 30 --side 96 --hostile
    dpg-bench audit /tmp/made-up/run1 --labels-wanted 40
    python scripts/audit_page_check.py dpg-bench /tmp/made-up/run1 [--shots DIR] [--browser chromium]

Done with the keyboard alone: a name, answers, undo, moves, saving. Then a reload in the middle, a second annotator, loading the
saved file in another browser, a narrow and a dark page, a browser that keeps nothing, and the page as `audit --serve` shows it,
with the server gone for a while and every question labelled, which it holds against the sample. Looked at: errors on the console,
requests that leave the page, scripts that run from questions, contrast. Needs nothing but Python and Chromium.
"""

import argparse
import base64
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from report_check import Browser

KEYS = {"ArrowLeft": 37, "ArrowRight": 39, "Enter": 13, "Tab": 9, " ": 32}
TEXT = "(id) => document.getElementById(id).textContent"
PRESSED = "[...document.querySelectorAll('[data-label]')].filter((b) => b.getAttribute('aria-pressed') === 'true').map((b) => b.dataset.label).join()"
# The ratio of contrast of two colours as WCAG 2 has it; text of each kind against what is behind it.
CONTRAST = """(() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => { const [r, g, b] = parts(colour).slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (element) => { for (let at = element; at; at = at.parentElement) { const colour = getComputedStyle(at).backgroundColor;
    if (!/, 0\\)$/.test(colour) && colour !== "transparent") return colour; } return "rgb(255, 255, 255)"; };
  const bad = [];
  for (const element of document.querySelectorAll("h1, p, label, button, kbd, b")) {
    if (!element.textContent.trim() || element.offsetParent === null || element.disabled || element.closest(":disabled")) continue;
    const [a, b] = [light(getComputedStyle(element).color), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.push(element.tagName + " " + element.id + " " + ratio.toFixed(2));
  }
  return bad;
})()"""


class Page:
    """A page in a browser of its own profile."""

    def __init__(self, program, folder, check, shots, before=None):
        self.profile = Path(folder) / "profile"
        self.downloads = Path(folder) / "downloads"
        self.downloads.mkdir(parents=True)
        self.browser = Browser(program, self.profile)
        self.check, self.shots = check, shots
        target = self.browser.send("Target.createTarget", url="about:blank")["targetId"]
        self.browser.session = self.browser.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.browser.send(f"{domain}.enable")
        self.browser.send("Page.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))
        if before:
            self.browser.send("Page.addScriptToEvaluateOnNewDocument", source=before)
        self.seen = []
        self.size(1280, 900)

    def close(self):
        self.browser.process.kill()
        self.browser.process.wait()

    def size(self, width, height):
        self.browser.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def colours(self, scheme):
        self.browser.send("Emulation.setEmulatedMedia", media="screen", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, address):
        self.address = address
        self.keep_events()
        self.browser.send("Page.navigate", url=address)
        self.browser.until("Page.loadEventFired")

    def keep_events(self):
        self.seen += self.browser.events
        self.browser.events.clear()

    def run(self, expression):
        return self.browser.run(expression)

    def text(self, part):
        return self.run(f"({TEXT})({json.dumps(part)})")

    def key(self, key, modifiers=0):
        code = KEYS.get(key, ord(key.upper()) if len(key) == 1 else 0)
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        for kind in ("keyDown", "keyUp"):
            more = {"text": text} if text and kind == "keyDown" else {}
            self.browser.send("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, modifiers=modifiers, **more)

    def type(self, text):
        for letter in text:
            self.key(letter)

    def shot(self, name, whole=False):
        if self.shots:
            self.shots.mkdir(parents=True, exist_ok=True)
            data = self.browser.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
            (self.shots / f"{name}.png").write_bytes(base64.b64decode(data))

    def tab_to(self, part):
        """With the tab key alone; returns how often it was pressed."""
        for times in range(1, 40):
            self.key("Tab")
            if self.run(f"document.activeElement.id === {json.dumps(part)}"):
                return times
        return None

    def wait(self, condition, seconds=20):
        end = time.time() + seconds
        while time.time() < end:
            if self.run(condition):
                return True
            time.sleep(0.1)
        return False

    def download(self, name):
        path = self.downloads / name
        end = time.time() + 10
        while time.time() < end and not path.exists():
            time.sleep(0.1)
        return path

    def put_file(self, path):
        root = self.browser.send("DOM.getDocument")["root"]["nodeId"]
        node = self.browser.send("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
        self.browser.send("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def quiet(self, what, allowed=()):
        """Nothing on the console, no request but the page's own, no script of a question."""
        self.run("new Promise((done) => setTimeout(done, 100))")
        self.keep_events()
        told, left = [], []
        for event in self.seen:
            parameters = event["params"]
            if event["method"] in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
                told.append(json.dumps(parameters)[:300])
            if event["method"] == "Log.entryAdded":
                told.append(parameters["entry"]["text"][:300])
            if event["method"] == "Network.requestWillBeSent":
                address = parameters["request"]["url"]
                if not address.startswith(("data:", "blob:")) and not address.startswith(self.address.split("?")[0]):
                    left.append(address[:200])
        told = [line for line in told if not any(word in line for word in allowed)]
        self.check(not told, f"{what}: nothing on the console {told[:3]}")
        self.check(not left, f"{what}: no request leaves the page {left[:3]}")
        self.check(self.run("window.hostile === undefined"), f"{what}: no script of a question has run")


def records(path):
    # Not `splitlines`, which also splits within a text.
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", help="dpg-bench")
    parser.add_argument("run", type=Path)
    parser.add_argument("--name", default="audit")
    parser.add_argument("--shots", type=Path, help="folder for screenshots")
    parser.add_argument("--browser", default="chromium")
    arguments = parser.parse_args()
    audit = arguments.run.resolve() / "audits" / arguments.name
    sample = json.loads((audit / "sample.json").read_text(encoding="utf-8"))
    problems = []

    def check(is_so, what):
        print(("ok    " if is_so else "WRONG ") + what)
        if not is_so:
            problems.append(what)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        saved = as_a_file(arguments, audit, sample, Path(folder), check)
        in_another_browser(arguments, audit, saved, Path(folder), check)
        without_storage(arguments, audit, Path(folder), check)
        served(arguments, audit, sample, Path(folder), check)
    if problems:
        sys.exit(f"{len(problems)} things are wrong")


def as_a_file(arguments, audit, sample, folder, check):
    page = Page(arguments.browser, folder / "first", check, arguments.shots)
    asked = sample["questions"]
    try:
        page.open((audit / "page.html").as_uri())
        check(page.run("document.activeElement.id") == "name", "the name is asked for first, and has the focus")
        page.shot("start")
        page.type("two words")
        page.key("Enter")
        check("begin with a letter" in page.text("name-fault"), "a name with a blank is refused")
        page.run("document.getElementById('name').select()")
        page.type("ann")
        page.key("Enter")
        check(page.run("document.activeElement.id") == "question", "the question has the focus")
        check(page.text("question") == asked[0]["text"], "the first question is that of the sample")
        check(page.run("document.getElementById('image').naturalWidth > 0"), "its image is shown")
        page.shot("question")
        check(page.run(CONTRAST) == [], f"contrast, light: {page.run(CONTRAST)}")
        # Every question is shown as it is in the sample, whatever it holds.
        texts = []
        for _ in asked:
            texts.append(page.text("question"))
            page.key("ArrowRight")
        check(texts == [question["text"] for question in asked], f"{len(asked)} questions, in order, as text")
        whole = page.run("document.documentElement.outerHTML.replace(/<script[^]*?<\\/script>/g, '')")
        check("<img src=x" not in whole and "onerror=\"" not in whole, "no question has become markup")
        for _ in asked:
            page.key("ArrowLeft")
        check(page.text("where").startswith("Question 1 of"), "arrows move to the end and back")
        for key in "y2c1n3":
            page.key(key)
        given = ["yes", "no", "cannot_tell", "yes", "no", "cannot_tell"]
        check(page.text("where").startswith("Question 7 of"), "each answer moves on")
        check(page.text("done").startswith(f"6 of {len(asked)} answered"), "and is counted")
        page.key("u")
        check(page.text("where").startswith("Question 6 of") and page.run(PRESSED) == "", "undo takes the last one back")
        page.key("y")
        page.key("ArrowLeft")
        check(page.run(PRESSED) == "yes", "and it can be given anew")
        page.key("n")
        page.key("u")
        check(page.run(PRESSED) == "yes" and "yes again" in page.text("said"), "undo brings an earlier answer back")
        given[5] = "yes"
        page.key("y", modifiers=2)
        check(page.text("done").startswith("6 of"), "Ctrl and a key is not an answer")
        # In the middle: the page is loaded again.
        page.open(page.address)
        known = page.run("[...document.querySelectorAll('#known button')].map((b) => b.textContent)")
        check(known == [f"Go on as ann (6 of {len(asked)})"], f"after a reload: {known}")
        page.key("Tab")
        page.key("Tab")
        page.key("Enter")
        check(page.text("done").startswith("6 of") and page.text("who") == "ann", "it goes on where it was, by the keyboard")
        page.key("o")
        check(page.text("where").startswith("Question 7 of"), "`o` goes to the next open question")
        check(page.tab_to("save") is not None, "the tab key reaches `Save labels`")
        outline = page.run("getComputedStyle(document.activeElement).outlineWidth")
        check(outline == "3px", f"the focus is seen ({outline})")
        page.shot("focus")
        page.key("Enter")
        saved = page.download("labels-ann.jsonl")
        lines = records(saved)
        check(lines[0]["sample"] and lines[0]["kind"] == "audit labels", "the file has its header")
        check([line["label"] for line in lines[1:]] == given, "and the labels")
        # A second annotator, who sees nothing of the first.
        check(page.tab_to("leave") is not None, "the tab key reaches `Another annotator`")
        page.key("Enter")
        page.type("李-2")
        page.key("Enter")
        check(page.text("done").startswith("0 of") and page.run(PRESSED) == "", "a second annotator begins at nothing")
        page.key("n")
        page.run("document.getElementById('save').click()")
        other = page.download("labels-李-2.jsonl")
        check([(line["annotator"], line["label"]) for line in records(other)[1:]] == [("李-2", "no")], "and saves their own label alone")
        # Narrow, then dark.
        page.size(400, 800)
        page.run("show(3)")
        wide = page.run("document.documentElement.scrollWidth")
        check(wide <= 400, f"400 px: nothing is wider than the page ({wide})")
        small = page.run("[...document.querySelectorAll('#work button')].filter((b) => b.getBoundingClientRect().height < 40).length")
        check(small == 0, f"400 px: every button can be hit ({small} are small)")
        page.shot("narrow")
        longest = page.run("questions.map((q, i) => [q.text.length, i]).sort((a, b) => b[0] - a[0])[0][1]")
        page.run(f"show({longest})")
        check(page.run("document.documentElement.scrollWidth") <= 400, "400 px: nor with the longest question")
        page.shot("narrow-longest", whole=True)
        page.colours("dark")
        check(page.run(CONTRAST) == [], f"contrast, dark: {page.run(CONTRAST)}")
        page.shot("narrow-dark")
        page.size(1280, 900)
        page.shot("dark")
        page.colours("light")
        # All of them.
        for _ in asked:
            page.key("y")
        check("That is all" in page.text("done"), "the end is told")
        page.shot("done")
        page.quiet("as a file")
        return saved
    finally:
        page.close()


def in_another_browser(arguments, audit, saved, folder, check):
    page = Page(arguments.browser, folder / "second", check, None)
    try:
        page.open((audit / "page.html").as_uri())
        page.type("ann")
        page.key("Enter")
        page.put_file(saved)
        check(page.wait("document.getElementById('done').textContent.startsWith('6 of')"), "a saved file is loaded in another browser")
        for name, text, said in (
            ("notes.jsonl", "my notes\n", "no file of labels"),
            ("other.jsonl", json.dumps({"format_version": "1.0", "kind": "audit labels", "sample": "0"}) + "\n", "another audit"),
            ("line.jsonl", saved.read_text(encoding="utf-8").replace("\"text\":\"", "\"text\":\"x", 1), "Line 2 is about"),
        ):
            path = folder / name
            path.write_text(text, encoding="utf-8")
            page.put_file(path)
            found = page.wait(f"document.getElementById('fault').textContent.includes({json.dumps(said)})")
            check(found, f"{name} is refused: {page.text('fault')}")
        check(page.text("done").startswith("6 of"), "what was there stands")
        page.quiet("in another browser")
    finally:
        page.close()


def without_storage(arguments, audit, folder, check):
    broken = "Object.defineProperty(window, 'localStorage', { get() { throw new Error('denied'); } });"
    page = Page(arguments.browser, folder / "third", check, arguments.shots, before=broken)
    try:
        page.open((audit / "page.html").as_uri())
        check("keeps nothing" in page.text("keeping"), "a browser that keeps nothing is told at the start")
        page.type("ann")
        page.key("Enter")
        page.key("y")
        check("Nothing is kept" in page.text("unsaved"), "and while it is labelled")
        check(page.text("done").startswith("1 of"), "and answers are taken all the same")
        page.shot("keeps-nothing")
        page.quiet("without storage")
    finally:
        page.close()


class Server:
    def __init__(self, program, run, name, port=0):
        self.process = subprocess.Popen([program, "audit", str(run), "--name", name, "--serve", str(port)],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.address = re.search(r"http://\S+", self.process.stdout.readline()).group()
        self.port = int(self.address.split(":")[2].split("/")[0])

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
        return self.process.returncode, self.process.stderr.read()


def served(arguments, audit, sample, folder, check):
    asked = sample["questions"]
    server = Server(arguments.program, arguments.run, arguments.name)
    page = Page(arguments.browser, folder / "fourth", check, arguments.shots)
    try:
        for address in (f"http://127.0.0.1:{server.port}/", f"http://127.0.0.1:{server.port}/{'0' * 32}/"):
            try:
                urllib.request.urlopen(address)
                status = 200
            except urllib.error.HTTPError as refused:
                status = refused.code
            check(status == 403, f"without the token: {status}")
        page.open(server.address)
        page.type("bea")
        page.key("Enter")
        is_sent = "state.unsent.length === 0 && document.getElementById('server').textContent === 'All labels are on the server.'"
        for key in "ynyyc":
            page.key(key)
        page.wait(is_sent)
        page.key("u")
        told = page.wait(is_sent)
        check(told, "each label is sent as it is given")
        labels = audit / "labels" / "bea.jsonl"
        lines = [(line["question"], line["label"]) for line in records(labels)[1:]]
        check([label for _, label in lines] == ["yes", "no", "yes", "yes", "cannot_tell", "withdrawn"], f"and is on the disk: {lines}")
        page.shot("served")
        # The server goes away in the middle.
        code, said = server.stop()
        check(code == 130 and "to go on:" in said, f"Ctrl-C ends the server with {code}: {said.strip().splitlines()[-1:]}")
        page.key("n")
        page.key("n")
        failed = page.wait("document.getElementById('server').textContent.includes('2 labels could not be sent')")
        check(failed, f"what could not be sent is told: {page.text('server')}")
        page.shot("server-gone")
        page.quiet("served", allowed=("ERR_CONNECTION_REFUSED",))
        page.seen.clear()
        # Another server has another token: the file and the browser that goes on there hold all of it together.
        check(len(records(labels)) == 7, "what was acknowledged is on the disk")
        server = Server(arguments.program, arguments.run, arguments.name, server.port)
        page.open(server.address)
        known = page.run("[...document.querySelectorAll('#known button')].map((b) => b.textContent)")
        check(known == [f"Go on as bea (6 of {len(asked)})"], f"with the new address: {known}")
        page.run("document.querySelector('#known button').click()")
        told = page.wait(is_sent)
        check(told and len(records(labels)) == 9, "what was given meanwhile is sent")
        page.quiet("served again")
        page.close()
        # On another machine: the server tells what there is.
        page = Page(arguments.browser, folder / "fifth", check, None)
        page.open(server.address)
        page.type("bea")
        page.key("Enter")
        there = page.wait("document.getElementById('done').textContent.startsWith('6 of')")
        check(there, f"on another machine it goes on: {page.text('done')}")
        while "That is all" not in page.text("done"):
            page.key("y")
        page.wait(is_sent, 60)
        last = {(line["item"], line["image"], line["question"], line["text"]): line["label"] for line in records(labels)[1:]}
        expected = {(q["item"], q["image"], q["question"], q["text"]) for q in asked}
        check(set(last) == expected and "withdrawn" not in last.values(), f"the server has a label of each of {len(last)} questions")
        page.quiet("on another machine")
    finally:
        page.close()
        server.stop()


if __name__ == "__main__":
    main()
