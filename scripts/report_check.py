#!/usr/bin/env python3
"""Opens a report in a headless Chromium, as a reader would, and fails where something is wrong.

    python scripts/made_up_runs.py /tmp/made-up --items 30 --side 96 --hostile
    dpg-bench report /tmp/made-up/run1 /tmp/made-up/run2* --out /tmp/made-up/report
    python scripts/report_check.py /tmp/made-up/report [--shots DIR] [--top PNG] [--browser chromium]

Looked at: errors on the console, requests that leave the folder, scripts that run from prompts, every
filter and order, paging, the keyboard, graphs whose labels overlap, narrow and dark pages. Needs nothing but
Python and Chromium (Debian: apt-get install chromium).
"""

import argparse
import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Browser:
    """Speaks the DevTools protocol over a pair of pipes: JSON messages with a zero byte after each."""

    def __init__(self, program, profile):
        to_browser, self.writer = os.pipe()
        self.reader, from_browser = os.pipe()

        def wire():
            os.dup2(to_browser, 30)
            os.dup2(from_browser, 31)
            os.dup2(30, 3)
            os.dup2(31, 4)

        self.process = subprocess.Popen(
            [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
             f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"],
            preexec_fn=wire, pass_fds=(3, 4, to_browser, from_browser), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        self.rest, self.number, self.session, self.events = b"", 0, None, []

    def message(self):
        while b"\0" not in self.rest:
            part = os.read(self.reader, 1 << 20)
            if not part:
                sys.exit("the browser went away")
            self.rest += part
        line, self.rest = self.rest.split(b"\0", 1)
        return json.loads(line)

    def send(self, method, **parameters):
        self.number += 1
        request = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            request["sessionId"] = self.session
        data = json.dumps(request).encode() + b"\0"
        while data:
            data = data[os.write(self.writer, data):]
        while True:
            answer = self.message()
            if answer.get("id") == self.number:
                if "error" in answer:
                    sys.exit(f"{method}: {answer['error']}")
                return answer["result"]
            if "method" in answer:
                self.events.append(answer)

    def until(self, method):
        while not any(event["method"] == method for event in self.events):
            self.events.append(self.message())

    def run(self, expression):
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            sys.exit(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")


SET = """(id, value) => { const field = document.getElementById(id); field.value = value;
  field.dispatchEvent(new Event("input", { bubbles: true })); return document.getElementById("status").textContent; }"""
SHOWN = "shown.length"
# Pairs of labels of the question graphs that stand on each other, and labels outside their box.
OVERLAPS = """[...document.querySelectorAll(".graph svg")].flatMap((svg) => {
  const texts = [...svg.querySelectorAll("text")].filter((text) => text.textContent.length > 1);
  const boxes = texts.map((text) => text.getBBox());
  const bad = [];
  boxes.forEach((a, i) => {
    const node = texts[i].parentNode.querySelector("rect.node").getBBox();
    if (a.x < node.x - 0.5 || a.x + a.width > node.x + node.width + 0.5) bad.push("outside: " + texts[i].textContent);
    boxes.slice(i + 1).forEach((b, j) => {
      const apart = a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + a.height <= b.y + 4 || b.y + b.height <= a.y + 4;
      if (!apart) bad.push(texts[i].textContent + " / " + texts[i + 1 + j].textContent);
    });
  });
  return bad;
})"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("--shots", type=Path, help="folder for screenshots")
    parser.add_argument("--top", type=Path, help="PNG of the page down to its first chart, at twice the size: docs/report.png")
    parser.add_argument("--browser", default="chromium")
    arguments = parser.parse_args()
    address = (arguments.report.resolve() / "index.html").as_uri()
    problems = []

    def check(is_so, what):
        print(("ok    " if is_so else "WRONG ") + what)
        if not is_so:
            problems.append(what)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(arguments.browser, profile)
        try:
            look(browser, address, arguments.shots, check)
            if arguments.top:
                arguments.top.write_bytes(top(browser, address))
        finally:
            browser.process.kill()
            browser.process.wait()
    if problems:
        sys.exit(f"{len(problems)} things are wrong")


def top(browser, address):
    browser.send("Emulation.setDeviceMetricsOverride", width=1000, height=1200, deviceScaleFactor=2, mobile=False)
    browser.send("Emulation.setEmulatedMedia", media="screen", features=[{"name": "prefers-color-scheme", "value": "light"}])
    browser.events.clear()
    browser.send("Page.navigate", url=address)
    browser.until("Page.loadEventFired")
    end = browser.run("document.querySelector('figcaption').getBoundingClientRect().bottom + window.scrollY + 6")
    clip = {"x": 0, "y": 0, "width": 1000, "height": int(end), "scale": 1}
    data = browser.send("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)["data"]
    return base64.b64decode(data)


def look(browser, address, shots, check):
    target = browser.send("Target.createTarget", url="about:blank")["targetId"]
    browser.session = browser.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Page", "Runtime", "Log", "Network"):
        browser.send(f"{domain}.enable")

    def size(width, height):
        browser.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def shot(name, whole=False):
        if shots:
            shots.mkdir(parents=True, exist_ok=True)
            data = browser.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
            (shots / f"{name}.png").write_bytes(base64.b64decode(data))

    def choose(field, value):
        browser.run(f"({SET})({json.dumps(field)}, {json.dumps(value)})")
        return browser.run(SHOWN)

    def reset():
        browser.run("document.getElementById('filters').reset()")
        browser.run("new Promise((done) => setTimeout(done, 30))")

    size(1280, 1500)
    began = time.time()
    browser.send("Page.navigate", url=address)
    browser.until("Page.loadEventFired")
    loaded = time.time() - began
    timing = browser.run("(() => { const t = performance.getEntriesByType('navigation')[0]; return [t.domInteractive, t.loadEventEnd]; })()")
    count = browser.run("data.items.length")
    print(f"{count} items; ready after {timing[0]:.0f} ms, loaded after {timing[1]:.0f} ms ({1000 * loaded:.0f} ms as seen from outside)")
    runs = browser.run("data.runs.length")

    first_page = browser.run("document.querySelectorAll('article.item').length")
    check(first_page == min(10, count), f"{first_page} items on the first page")
    browser.run("document.querySelector('#gallery').scrollIntoView()")
    browser.run("new Promise((done) => setTimeout(done, 400))")
    broken = browser.run("[...document.querySelectorAll('article img')].filter((i) => i.complete && i.naturalWidth === 0).map((i) => i.src.slice(0, 120))")
    seen = browser.run("[...document.querySelectorAll('article img')].filter((i) => i.complete && i.naturalWidth > 0).length")
    check(not broken and seen > 0, f"{seen} pictures in sight are shown, {len(broken)} broken {broken[:2]}")
    shot("gallery")

    some = browser.run("data.items[Math.floor(data.items.length / 2)].prompt.slice(0, 60)")
    found = choose("text", some)
    prompts = browser.run("shown.every((item) => [item.id, item.prompt, ...item.questions.map((q) => q[1])].join('\\n').toLowerCase()"
                          f".includes({json.dumps(some)}.trim().toLowerCase()))")
    check(0 < found < count and prompts, f"text filter: {found} items")
    check(choose("text", "no such words anywhere") == 0, "text filter: nothing for nonsense")
    reset()
    check(browser.run(SHOWN) == count, "reset shows all items")
    category = browser.run("[...document.getElementById('category').options].find((o) => o.value.startsWith('l2:')).value")
    found = choose("category", category)
    check(found > 0 and browser.run("shown.every((item) => placesOf(item).length > 0)"), f"category filter: {found} items")
    for verdict in ("n", "p", "u", "mf", "all"):
        found = choose("verdict", verdict)
        check(0 <= found <= count, f"category with answers `{verdict}`: {found} items")
    reset()
    choose("verdict", "n")
    check(browser.run("shown.every((item) => item.runs[Number(run.value)].images.some((i) => i.judges[0].ruled.includes('n')))"),
          "failed-question filter: every item has one")
    reset()
    choose("low", "50")
    found = choose("high", "80")
    check(browser.run("shown.every((item) => { const s = item.runs[Number(run.value)].score; return s >= 50 && s <= 80; })"),
          f"score filter: {found} items from 50 to 80")
    reset()
    choose("order", "up")
    check(browser.run("shown.map((i) => scoreOf(i, Number(run.value))).filter((s) => s !== null).every((s, n, all) => n === 0 || all[n - 1] <= s)"),
          "order by score")
    if runs > 1:
        choose("order", "swing")
        check(browser.run("shown.map(swingOf).filter((s) => s !== null).map(Math.abs).every((s, n, all) => n === 0 || all[n - 1] >= s)"),
              "order by swing between two runs")
    reset()
    if count > 10:
        browser.run("document.querySelector('[data-page=next]').click()")
        check(browser.run("document.querySelector('article h3').textContent === data.items[10].id"), "next page shows the 11th item")
        browser.run("document.querySelector('[data-page=previous]').click()")

    # The keyboard reaches the filters and opens an item.
    browser.run("document.querySelector('article summary').focus()")
    for kind in ("keyDown", "keyUp"):
        browser.send("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")
    browser.run("new Promise((done) => setTimeout(done, 100))")
    check(browser.run("document.querySelector('article details').open && document.querySelectorAll('article details table').length > 0"),
          "Enter opens graph and answers")
    browser.run("document.querySelector('article details').scrollIntoView()")
    shot("answers")
    browser.run("document.querySelectorAll('article details').forEach((d) => { d.open = true; })")
    browser.run("new Promise((done) => setTimeout(done, 300))")
    overlaps = browser.run(OVERLAPS)
    graphs = browser.run("document.querySelectorAll('.graph svg').length")
    check(graphs > 0 and not overlaps, f"{graphs} question graphs without overlapping labels {overlaps[:3]}")
    full = browser.run("[...document.querySelectorAll('article a.full')].map((a) => a.href)")
    if browser.run("data.runs.some((run) => run.pictures)"):
        there = all(Path(unquote(urlsplit(link).path)).is_file() for link in full)
        check(full and there, f"{len(full)} links to full pictures, all of which are there")
        browser.run("document.querySelector('article a.full').focus()")
        check(browser.run("document.activeElement.matches('a.full') && document.activeElement.tabIndex === 0"),
              "the keyboard reaches a full picture")
    else:
        check(not full, "no links to full pictures")
    unnamed = browser.run("[...document.querySelectorAll('button, input, select, a, img')].filter((e) => !(e.labels && e.labels.length)"
                          " && !e.textContent.trim() && !e.alt && !e.getAttribute('aria-label')).length")
    check(unnamed == 0, "every control and picture has a name")
    check(browser.run("document.querySelectorAll('main table').length === document.querySelectorAll('main table caption').length"),
          "every table has a caption")

    overlaps = browser.run("""[...document.querySelectorAll("svg.chart")].flatMap((svg) => {
      const texts = [...svg.querySelectorAll("text")], boxes = texts.map((text) => text.getBBox()), bad = [];
      boxes.forEach((a, i) => boxes.slice(i + 1).forEach((b, j) => {
        const apart = a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + a.height <= b.y + 3 || b.y + b.height <= a.y + 3;
        if (!apart) bad.push(texts[i].textContent + " / " + texts[i + 1 + j].textContent);
      }));
      return bad;
    })""")
    check(not overlaps, f"charts without overlapping labels {overlaps[:3]}")

    size(360, 740)
    browser.run("document.querySelector('#gallery').scrollIntoView()")
    wide = browser.run("document.documentElement.scrollWidth")
    check(wide <= 360, f"a screen of 360 pixels needs {wide}")
    shot("narrow")
    size(1280, 1500)
    browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    browser.run("document.querySelector('article details').scrollIntoView()")
    shot("dark")
    browser.run("document.querySelector('#categories, main section').scrollIntoView()")
    shot("dark-charts")
    browser.send("Emulation.setEmulatedMedia", media="print", features=[])
    browser.run("scrollTo(0, 0)")
    shot("print")
    pdf = base64.b64decode(browser.send("Page.printToPDF")["data"])
    check(len(pdf) > 10_000, f"prints ({len(pdf) / 1e3:.0f} kB)")
    browser.send("Emulation.setEmulatedMedia", media="", features=[])
    browser.run("scrollTo(0, 0)")
    size(1280, 900)
    shot("top")

    check(browser.run("typeof window.hostile") == "undefined", "nothing from a prompt ran")
    check(browser.run("document.scripts.length") == 2, "two scripts: data and gallery")
    strange = browser.run("document.querySelectorAll('article script, article iframe, article a:not(.full), main svg image, [onerror], [onload]').length")
    check(strange == 0, "no markup from a prompt")
    failures = []
    for event in browser.events:
        method, parameters = event["method"], event["params"]
        if method == "Runtime.exceptionThrown":
            failures.append(parameters["exceptionDetails"].get("text", "exception"))
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning"):
            failures.append(str(parameters["args"]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            failures.append(parameters["entry"]["text"])
        elif method == "Page.javascriptDialogOpening":
            failures.append("a dialog")
        elif method == "Network.requestWillBeSent" and not parameters["request"]["url"].startswith(("file:", "data:")):
            failures.append("request to " + parameters["request"]["url"])
    check(not failures, f"no error, warning, dialog or request to elsewhere {failures[:3]}")


if __name__ == "__main__":
    main()
