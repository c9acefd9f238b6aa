#!/usr/bin/env python3
"""Opens the pages of an exporter in Chromium, as a desktop and as a phone, light and dark.

check_pages.py BASE_URL [--first NAME ...] [--pictures FOLDER]

Fails if the browser reports an error, if a resource is blocked, if axe-core finds a fault of accessibility, if a page is wider
than its window, if a text in --first is not within the first 800 pixels, or if the page and the JSON API differ.
"""

import argparse
import json
import sys
import urllib.request
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

# Without these, Chromium asks Google's servers for updates.
ARGUMENTS = [
    "--disable-background-networking", "--disable-component-update", "--disable-gpu", "--disable-quic", "--disable-sync",
    "--no-first-run", "--no-sandbox",
]
DESKTOP, PHONE = {"width": 1280, "height": 1100}, {"width": 390, "height": 1100}


class Checker:
    def __init__(self, base, pictures):
        self.base, self.pictures, self.faults, self.checks = base, pictures, [], 0

    def check(self, is_right, fault):
        self.checks += 1
        if not is_right:
            self.faults.append(fault)

    def open(self, browser, path, name, viewport, scheme):
        """Opens a page, checks what every page must have, and returns it."""
        page = browser.new_page(viewport=viewport, color_scheme=scheme)
        where = f"{path} ({name})"
        page.on("console", lambda message: self.check(message.type not in ("error", "warning"), f"{where}: {message.text}"))
        page.on("pageerror", lambda error: self.check(False, f"{where}: {error}"))
        page.on("requestfailed", lambda request: self.check(False, f"{where}: {request.url}: {request.failure}"))
        page.on("response", lambda response: self.check(response.ok, f"{where}: {response.url}: {response.status}"))
        page.goto(self.base + path)
        width = page.evaluate("document.documentElement.scrollWidth")
        self.check(width <= viewport["width"], f"{where}: {width} pixels wide")
        results = Axe().run(page)
        for violation in results.response["violations"]:
            nodes = [node["html"] for node in violation["nodes"][:3]]
            self.check(False, f"{where}: {violation['id']}: {violation['help']}: {nodes}")
        self.check(len(results.response["passes"]) > 10, f"{where}: axe-core checked next to nothing")
        if self.pictures:
            page.screenshot(path=self.pictures / f"{name}.png")
        return page

    def get(self, path):
        with urllib.request.urlopen(self.base + path) as answer:
            return json.load(answer)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("base")
    parser.add_argument("--first", nargs="*", default=[])
    parser.add_argument("--pictures", type=Path)
    arguments = parser.parse_args()
    checker = Checker(arguments.base.rstrip("/"), arguments.pictures)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        page = checker.open(browser, "/", "page-status-light", DESKTOP, "light")
        for text in arguments.first:
            box = page.get_by_text(text).first.bounding_box()
            checker.check(box and box["y"] + box["height"] <= 800, f"{text!r} is not within the first 800 pixels: {box}")
        text = page.inner_text("main")
        status = checker.get("/api/v1/status")
        for target in status["targets"]:
            checker.check(target["target"] in text, f"target {target['target']!r} is not on the page")
        # The jobs of a fleet that moves can change between two answers.
        for _ in range(5):
            attention = checker.get("/api/v1/jobs?attention=true")["jobs"]
            number = f"{checker.get('/api/v1/status')['summary']['jobs_need_attention']:,} jobs need attention"
            page.reload()
            text = page.inner_text("main")
            missing = [text_of for text_of in [number, *(job["job_id"] for job in attention[:10])] if text_of not in text]
            if not missing:
                break
        checker.check(attention, "no job needs attention")
        checker.check(not missing, f"the page lacks: {missing}")
        page.click(f"text={attention[0]['job_id']} >> nth=0")
        checker.check(page.inner_text("h1") == attention[0]["job_id"], f"the link leads to {page.url}")
        page.click("text=All targets")
        checker.check(page.inner_text("h1") == "AWS IoT Jobs exporter", f"the way back leads to {page.url}")
        job = page.locator("th a").first.get_attribute("href")
        checker.open(browser, f"/{job}", "page-job-light", DESKTOP, "light")
        checker.open(browser, f"/{job}", "page-job-phone", PHONE, "dark")
        checker.open(browser, "/", "page-status-dark", DESKTOP, "dark")
        checker.open(browser, "/", "page-status-phone", PHONE, "light")
        browser.close()
    if checker.faults:
        sys.exit("\n".join(dict.fromkeys(checker.faults)))
    print(f"{checker.checks} checks")


if __name__ == "__main__":
    main()
