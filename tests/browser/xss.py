#!/usr/bin/env python3
"""Strings that would be scripts anywhere careless: in messages, names, article titles, texts and file names.

Usage: xss.py BASE JOIN_URL PACK_FOLDER

Puts each of them wherever a stranger's or a colleague's text goes, opens every page that shows it in Chromium, and fails
if a script runs, a dialog opens, the policy had to stop something, or the page holds what could run.
"""

import pathlib
import sys

from browser import User, check, chromium, run, say

STRINGS = [
    "<script>window.__xss=1</script>",
    "<img src=x onerror=\"window.__xss=2\">",
    "<svg onload=window.__xss=3>",
    "\"><script>alert(4)</script>",
    "'><img src=x onerror=alert(5)>",
    "<iframe srcdoc=\"<script>parent.__xss=6</script>\"></iframe>",
    "<a href=\"javascript:window.__xss=7\">click</a>",
    "[click](javascript:window.__xss=8)",
    "![x](javascript:window.__xss=9)",
    "![x](data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9YWxlcnQoMTApLz4=)",
    "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxMSk8L3NjcmlwdD4=)",
    "![\" onerror=\"window.__xss=12](x)",
    "[a](https://x.example/\"onmouseover=\"window.__xss=13)",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=window.__xss=14>",
    "<noscript><p title=\"</noscript><img src=x onerror=window.__xss=15>\">",
    "<details open ontoggle=window.__xss=16>",
    "<input autofocus onfocus=window.__xss=17>",
    "<body onload=window.__xss=18>",
    "<style>@import 'data:text/css,*{background:red}';</style>",
    "<base href=\"https://evil.example/\">",
    "<form action=\"javascript:window.__xss=19\"><button>go</button></form>",
    "<object data=\"data:text/html,<script>alert(20)</script>\"></object>",
    "<embed src=\"javascript:alert(21)\">",
    "<scr<script>ipt>window.__xss=22</scr</script>ipt>",
    "</textarea><script>window.__xss=23</script>",
    "</title><script>window.__xss=24</script>",
    "${window.__xss=25}{{constructor.constructor('window.__xss=26')()}}",
    "&lt;script&gt;window.__xss=27&lt;/script&gt;",
    "&#60;img src=x onerror=window.__xss=28&#62;",
    "\u202e<script>window.__xss=29</script>\u0000",
    "```html\n<script>window.__xss=30</script>\n```",
    "`<img src=x onerror=window.__xss=31>`",
    "<javascript:alert(32)>",
    "[x]: javascript:alert(33)\n\n[x]",
    "<xmp><p title=\"</xmp><img src=x onerror=window.__xss=34>\">",
    "<template><script>window.__xss=35</script></template>",
    "JaVaScRiPt:alert(36)",
    "<a href=\"jav&#x09;ascript:alert(37)\">x</a>",
    "<img src=\"x\" style=\"background:url(javascript:alert(38))\">",
    "<!--<img src=\"--><img src=x onerror=window.__xss=39>\">",
]
NAME = "<img src=x onerror=window.__xss=90>"


def main():
    base, join_url, pack = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    with chromium() as browser:
        lead = User(browser, base)
        lead.join(join_url, NAME, "lead")
        lead.harmless("after joining")

        # Articles whose title, text and file name are strings, beside one that shows when the index has them.
        folder = pack / "articles/en"
        for n, text in enumerate(STRINGS):
            (folder / f"hostile-{n}.md").write_text(f"# {text}\n\nZebracorn {n}. {text}\n\n## {text}\n\n{text}\n")
        for n, name in enumerate(["<img src=x onerror=window.__xss=91>", "\"><svg onload=alert(92)>", "' onmouseover='alert(93)", "javascript:alert(94)", "&lt;b&gt;"]):
            (folder / f"{name}.md").write_text(f"# Named {n}\n\nQuaggafish {n}.\n")
        found = lambda: len(lead.api("GET", "/knowledge?query=Quaggafish&limit=200")["items"]) >= 1
        lead.wait(found, "the hostile articles in the index", 120)

        # A customer who writes them all, a few at a time.
        customer = User(browser, base)
        frame = customer.open_widget()
        for n in range(0, len(STRINGS), 8):
            said = "\n".join(STRINGS[n : n + 8])
            say(frame, said)
            check("window.__xss" in frame.locator(".say-customer").last.inner_text() or "alert" in frame.locator(".say-customer").last.inner_text(), "the message is shown as it was written")
            customer.harmless(f"widget, strings from {n}")
        say(frame, "What is a Zebracorn 3?")
        customer.harmless("widget, an answer from a hostile article")

        # Entries of the FAQ and their preview.
        for n, text in enumerate(STRINGS):
            lead.api("POST", "/knowledge/faq", {"question": f"Hostile {n} {text}"[:400].replace("|", " ").replace("\n", " "), "answer": f"{text}\n\nEnd {n}.", "lang": "en", "tags": []})
        lead.open("/console/knowledge/desk")
        lead.page.wait_for_selector(".entries a")
        lead.harmless("knowledge, list")
        items = lead.api("GET", "/knowledge?limit=200")["items"]
        for item in items:
            lead.page.evaluate("(id) => { history.pushState(null, '', '/console/knowledge/all/' + encodeURIComponent(id)); dispatchEvent(new PopStateEvent('popstate')); }", item["id"])
            lead.page.wait_for_timeout(40)
        lead.page.wait_for_selector(".article")
        lead.harmless("knowledge, items")
        lead.page.keyboard.press("n")
        lead.page.wait_for_selector(".editor textarea")
        lead.page.fill(".editor textarea", "\n\n".join(STRINGS))
        lead.page.wait_for_timeout(800)
        check(lead.page.locator(".preview .md > *").count() > 3, "the preview shows something")
        lead.harmless("knowledge, preview")

        # The desk: the list, the conversation, a reply made of strings; the customer sees it.
        conversation = lead.api("GET", "/conversations?view=all")["items"][0]["id"]
        lead.open(f"/console/inbox/live/{conversation}")
        lead.page.wait_for_selector(".said-customer")
        lead.harmless("inbox, the conversation")
        for text in STRINGS:
            lead.api("POST", f"/conversations/{conversation}/take", {})
            lead.api("POST", f"/conversations/{conversation}/reply", {"text": text})
        lead.api("POST", f"/conversations/{conversation}/note", {"text": "\n".join(STRINGS)})
        turn = next(m for m in lead.api("GET", f"/conversations/{conversation}")["messages"] if m.get("turn"))["turn"]["id"]
        lead.api("POST", f"/turns/{turn}/mark", {"wrong": True, "right": "\n".join(STRINGS)})
        frame.wait_for_function("(n) => document.querySelectorAll('.say-person').length >= n", arg=len(STRINGS))
        customer.harmless("widget, a person's replies")
        check(NAME in frame.locator("#speaker").inner_text(), "a name is shown as text")
        lead.page.wait_for_timeout(500)
        lead.harmless("inbox, replies, note and mark")
        customer.page.reload()
        customer.harmless("website after a reload")
        frame = customer.open_widget()
        frame.wait_for_selector(".say-person")
        customer.harmless("widget, history after a reload")

        for path in ["/console/inbox/closed", "/console/knowledge/suggestions", "/console/figures", "/console/people", "/console/ask", "/console/inbox/" + "%3Cimg%20src%3Dx%20onerror%3Dalert(95)%3E",
                     "/console/join?token=%22%3E%3Cscript%3Ealert(96)%3C/script%3E", "/widget/frame?color=red;%22%3E%3Cscript%3E&language=%3Cimg%3E&operator=%3Cscript%3Ealert(97)%3C/script%3E"]:
            lead.open(path)
            lead.page.wait_for_timeout(600)
            lead.harmless(path)
        lead.open("/console/ask")
        lead.page.fill(".ask-box textarea", "What is Zebracorn 1? <img src=x onerror=alert(98)>")
        lead.page.keyboard.press("Enter")
        lead.page.wait_for_selector(".asked .badge")
        lead.harmless("ask")

        # Pages of the pack itself.
        for n in range(len(STRINGS)):
            lead.open(f"/kb/articles/en/hostile-{n}.md")
            lead.harmless(f"/kb/articles/en/hostile-{n}.md")
        print(f"{len(STRINGS)} strings in messages, replies, notes, marks, names, titles, texts, file names and addresses; none ran")


run(main)
