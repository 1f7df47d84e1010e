"""Debian's Chromium, driven by Playwright, with a watch for scripts that must never run."""

import contextlib
import json
import os
import sys
import time
import traceback

from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import sync_playwright

PASSWORD = "correct horse battery"

# Runs before any script of a page: whatever an injected script would do is written down.
WATCH = """
window.__ran = [];
window.alert = window.confirm = window.prompt = (what) => { window.__ran.push('dialog ' + what); };
Object.defineProperty(window, '__xss', { set(value) { window.__ran.push('xss ' + value); }, get() { return undefined; } });
document.addEventListener('securitypolicyviolation', (event) => window.__ran.push('policy ' + event.violatedDirective + ' ' + event.blockedURI));
"""

# What no page of ours has, and what an injection would leave behind even where the policy keeps it from running.
TRACES = """() => [...window.__ran, ...[...document.querySelectorAll('*')].flatMap((node) => {
  const found = [];
  for (const { name, value } of node.attributes) {
    if (/^on/i.test(name)) found.push(`${node.localName} ${name}`);
    if (/^(href|src|action|formaction|data|xlink:href)$/i.test(name) && /^\\s*(javascript|vbscript|data:text)/i.test(value)) found.push(`${node.localName} ${name}=${value}`);
    if (name === 'srcdoc') found.push(`${node.localName} ${name}`);
  }
  if (node.localName === 'script' && !node.src) found.push('an inline script');
  if (['object', 'embed', 'base', 'math', 'marquee'].includes(node.localName)) found.push(node.localName);
  return found;
})]"""


class Fault(AssertionError):
    """Something that a user would see and should not, or the other way round."""


def check(true, what):
    if not true:
        raise Fault(what)


@contextlib.contextmanager
def chromium():
    """A browser; the path is $FIRSTLINE_TEST_CHROMIUM or Debian's."""
    with sync_playwright() as playwright:
        path = os.environ.get("FIRSTLINE_TEST_CHROMIUM", "/usr/bin/chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        except (Fault, PlaywrightError) as fault:
            # Now, while the pages are open.
            fault.seen = [line for number, user in enumerate(User.everybody) for line in (f"user {number}:", *user.seen())]
            raise
        finally:
            browser.close()


class User:
    """Someone at a browser of their own."""

    # All of a test, to tell what they saw when it failed.
    everybody = []

    def __init__(self, browser, base, width=1400, height=860, scheme="light", locale="en-GB", shots=None, zone="UTC"):
        self.base, self.shots = base, shots
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, locale=locale, timezone_id=zone
        )
        self.context.add_init_script(WATCH)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.errors = []
        self.dialogs = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.everybody.append(self)
        self.page.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))

    def open(self, path):
        self.page.goto(self.base + path if path.startswith("/") else path)

    def wait(self, found, what, seconds=60):
        """What `found()` gives once it gives something; the browser goes on meanwhile."""
        end = time.monotonic() + seconds
        while not (value := found()):
            check(time.monotonic() < end, f"{what}: not within {seconds} s")
            self.page.wait_for_timeout(50)
        return value

    def seen(self):
        """What stands in each frame of the page now."""
        yield f"errors {self.errors}, dialogs {self.dialogs}"
        for frame in self.page.frames:
            try:
                yield f"{frame.url}: {frame.inner_text('body', timeout=2000)[-1500:]!r}"
            except Exception as gone:  # a page that has closed
                yield f"{frame.url}: {gone}"

    def shot(self, name):
        if self.shots:
            self.page.wait_for_timeout(350)
            self.page.screenshot(path=f"{self.shots}/{name}.png")

    def harmless(self, where):
        """Nothing ran that should not, and nothing was left in the page that could."""
        for frame in self.page.frames:
            if not frame.url.startswith(self.base):
                continue
            found = frame.evaluate(TRACES)
            check(not found, f"{where}, {frame.url}: {found}")
        check(not self.dialogs, f"{where}: dialogs {self.dialogs}")
        check(not self.errors, f"{where}: errors {self.errors}")

    # ---- staff ----

    def join(self, url, name, login):
        self.open(url)
        self.page.fill("input[autocomplete=name]", name)
        self.page.fill("input[autocomplete=username]", login)
        self.page.fill("input[type=password]", PASSWORD)
        self.shot("join")
        self.page.keyboard.press("Enter")
        self.page.wait_for_selector(".rail")

    def sign_in(self, login):
        self.open("/console/")
        self.page.fill("input[autocomplete=username]", login)
        self.page.fill("input[type=password]", PASSWORD)
        self.page.keyboard.press("Enter")
        self.page.wait_for_selector(".rail")

    def api(self, method, path, body=None):
        """A request of the console's own API with this user's session."""
        told = self.page.evaluate(
            """async ([method, path, body]) => {
              const me = await (await fetch('/console/api/me')).json();
              const response = await fetch('/console/api' + path, { method, headers: { 'Content-Type': 'application/json', 'X-CSRF-Token': me.csrf }, body: body === null ? undefined : JSON.stringify(body) });
              return [response.status, await response.text()];
            }""",
            [method, path, body],
        )
        check(told[0] < 300, f"{method} {path}: {told}")
        return json.loads(told[1] or "null")

    # ---- customers ----

    def open_widget(self):
        """Opens the chat on the demo page by its button; gives the frame."""
        self.open("/widget/demo")
        self.page.wait_for_selector("#firstline-widget", state="attached")
        self.page.evaluate("firstlineWidget.open()")
        frame = self.wait(lambda: next((f for f in self.page.frames if "/widget/frame" in f.url), None), "the chat's frame")
        frame.wait_for_selector("#text")
        return frame


def say(frame, text):
    """Writes a message in the chat and waits until it is answered; gives the texts that came as answers."""
    before = frame.locator(".say-bot").count()
    frame.fill("#text", text)
    frame.press("#text", "Enter")
    frame.wait_for_function(
        "() => !document.querySelector('[aria-busy]') && ![...document.querySelectorAll('.note')].some((note) => note.textContent)"
    )
    return frame.locator(".say-bot").all_inner_texts()[before:]


def run(main):
    """Runs a test; a fault is told with what everybody saw, and status 1."""
    try:
        main()
    except (Fault, PlaywrightError) as fault:
        where = traceback.extract_tb(fault.__traceback__)
        line = next((at for at in reversed(where) if at.filename == os.path.abspath(sys.argv[0])), where[-1])
        print(f"FAULT: {line.name}, line {line.lineno}: {fault}", *getattr(fault, "seen", []), sep="\n", file=sys.stderr)
        sys.exit(1)
