#!/usr/bin/env python3
"""The console without a mouse, and its doors: keys, focus, roles, sessions.

Usage: house.py BASE JOIN_URL

Somebody signs in, reads, takes over, answers, writes a note and leaves by keys alone, on an English and on a Russian
layout; sees where the focus is; an operator is kept from what is a lead's; whoever is signed out elsewhere sees the
sign-in page at the next click, and goes on where he was.
"""

import sys

from browser import PASSWORD, User, check, chromium, run, say

FOCUSED = "() => { const at = document.activeElement; return at.getAttribute('aria-label') || at.innerText?.trim() || at.placeholder || at.localName; }"
# The focused element is shown: by an outline of its own, or by its frame's border.
VISIBLE = """() => {
  const at = document.activeElement;
  if (!at || at === document.body) return true;
  const style = getComputedStyle(at);
  if (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0) return true;
  const frame = at.closest('.composer, .ask-box, label, .field');
  return frame ? getComputedStyle(frame).borderColor !== getComputedStyle(document.documentElement).getPropertyValue('--line') : false;
}"""

# What was written is sent, and the next word can be written.
SENT = "() => { const text = document.querySelector('.composer textarea'); return text.value === '' && document.activeElement === text && !document.querySelector('.composer [type=submit]').disabled; }"
SENDS = "() => !document.querySelector('.composer [type=submit]').disabled"


def main():
    base, join_url = sys.argv[1], sys.argv[2]
    with chromium() as browser:
        lead = User(browser, base)
        lead.join(join_url, "Maria Lindholm", "maria")
        second = User(browser, base)
        second.open(join_url)
        second.page.fill("input[autocomplete=username]", "eve")
        second.page.fill("input[autocomplete=name]", "Eve")
        second.page.fill("input[type=password]", PASSWORD)
        second.page.keyboard.press("Enter")
        second.page.wait_for_selector("[role=alert]")
        check(second.page.locator(".rail").count() == 0, "the first link works once")

        customer = User(browser, base)
        chat = customer.open_widget()
        for words in ["How do I change the color of the widget?", "I want to talk to a person", "no, give me a person please"]:
            if chat.evaluate("document.body.dataset.owner") == "bot":
                say(chat, words)

        page = lead.page
        # Tab goes through the page, and one sees where it is.
        lead.open("/console/inbox/waiting")
        page.wait_for_selector(".conversations a")
        passed = []
        for _ in range(14):
            page.keyboard.press("Tab")
            passed.append(page.evaluate(FOCUSED))
            check(page.evaluate(VISIBLE), f"the focus is seen on {passed[-1]!r}")
        check(len(set(passed)) > 8, f"Tab goes through the page: {passed}")
        page.evaluate("document.activeElement.blur()")

        # The list, the conversation, taking over, an answer, a note, leaving: keys alone.
        page.keyboard.press("j")
        page.wait_for_selector(".handed .reason")
        page.keyboard.press("t")
        page.wait_for_selector(".chip.owner-person")
        page.wait_for_function("() => document.activeElement?.localName === 'textarea'")
        page.keyboard.type("By keys alone.")
        page.keyboard.press("Control+Enter")
        # Who writes on while it is being sent loses no word.
        page.keyboard.type("And one thing more.")
        chat.wait_for_selector(".say-person")
        page.wait_for_function(SENDS)
        check(page.input_value(".composer textarea") == "And one thing more.", "what was typed meanwhile stays")
        page.keyboard.press("Control+Enter")
        lead.wait(lambda: chat.locator(".say-person").count() == 2, "the second answer")
        page.wait_for_function(SENT)
        page.keyboard.press("Escape")
        page.keyboard.press("n")
        page.wait_for_selector(".composer.as-note")
        page.keyboard.type("A note for colleagues.")
        page.keyboard.press("Control+Enter")
        page.wait_for_selector(".said-note")
        page.wait_for_function(SENT)
        check("A note" not in chat.locator("#thread").inner_text(), "a note stays inside")
        page.keyboard.press("Escape")
        page.keyboard.press("?")
        page.wait_for_selector("dialog[open]")
        page.keyboard.press("Escape")
        page.wait_for_selector("dialog[open]", state="detached")
        for key, selector in [("k", ".entries"), ("f", ".filters"), ("a", ".ask-box"), ("p", ".people"), ("i", ".conversations, .nothing")]:
            page.keyboard.press("Escape")
            page.keyboard.press("g")
            page.keyboard.press(key)
            page.wait_for_selector(selector)

        # The same keys where the layout is Russian: the letter is another, the key is the same.
        page.evaluate("""() => { for (const [key, code] of [['п', 'KeyG'], ['л', 'KeyK']]) document.body.dispatchEvent(new KeyboardEvent('keydown', { key, code, bubbles: true })); }""")
        page.wait_for_selector(".entries")

        # An operator is no lead.
        link = lead.api("POST", "/people", {"name": "Olga Berg", "role": "operator"})["join_url"]
        operator = User(browser, base)
        operator.join(link, "Olga Berg", "olga")
        check(operator.page.locator("[data-page=people]").count() == 0, "operators see no People page")
        operator.open("/console/people")
        operator.page.wait_for_selector(".page-inbox")

        # Signed out elsewhere: the next thing done shows the sign-in page, and after it one is where one was.
        operator.open("/console/knowledge/faq")
        operator.page.wait_for_selector(".entries a")
        me = next(p for p in lead.api("GET", "/people")["items"] if p["login"] == "olga")
        lead.api("POST", f"/people/{me['id']}", {"active": False})
        operator.page.locator(".entries a").first.click()
        operator.page.wait_for_selector(".sign-in")
        operator.page.fill("input[autocomplete=username]", "olga")
        operator.page.fill("input[type=password]", PASSWORD)
        operator.page.keyboard.press("Enter")
        operator.page.wait_for_selector("[role=alert]")
        lead.api("POST", f"/people/{me['id']}", {"active": True})
        operator.page.fill("input[type=password]", PASSWORD)
        operator.page.keyboard.press("Enter")
        operator.page.wait_for_selector(".rail")
        check("/console/knowledge" in operator.page.url, f"one is where one was: {operator.page.url}")
        for user, name in [(lead, "lead"), (operator, "operator"), (customer, "customer")]:
            user.harmless(name)
        print("a desk by keys alone; doors are shut")


run(main)
