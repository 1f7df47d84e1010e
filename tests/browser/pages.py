"""Every page of the console and the widget as people see it: wide and narrow, English and Russian, light and dark.

`look_at_all` opens each, takes a picture where it is told a folder, and holds it to what a page must keep whatever it
shows: nothing wider than the screen, text that can be read on its ground (WCAG 2.2, 1.4.3), a name on everything that
can be pressed, one first heading, and no fault in the browser's console.
"""

from browser import User, check

PAGES = [
    ("inbox-waiting", "/console/inbox/waiting"), ("inbox-closed", "/console/inbox/closed"), ("inbox-mine", "/console/inbox/mine"),
    ("ask", "/console/ask"), ("knowledge", "/console/knowledge/all"), ("suggestions", "/console/knowledge/suggestions"),
    ("figures", "/console/figures"), ("people", "/console/people"),
]
VIEWS = [
    ("en", 1400, 860, "light"), ("ru", 1400, 860, "dark"), ("ru", 1400, 860, "light"), ("en", 390, 844, "light"), ("ru", 390, 844, "dark"), ("ru", 360, 740, "light"),
]

# Faults of the page as it stands. Colours are laid over one another as the browser paints them; text over images is left out.
FAULTS = """() => {
  const found = [];
  const screen = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > screen + 1) {
    const wide = [...document.querySelectorAll('body *')].filter((n) => n.getBoundingClientRect().right > screen + 1 && getComputedStyle(n).position !== 'fixed').slice(0, 3);
    found.push('wider than the screen: ' + wide.map((n) => n.localName + '.' + n.className).join(', '));
  }
  const shown = (n) => n.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true }) && n.getClientRects().length && !n.closest('.off-screen, .skip');
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = 1;
  const paint = canvas.getContext('2d', { willReadFrequently: true });
  const over = (colours) => {
    paint.globalCompositeOperation = 'source-over';
    paint.clearRect(0, 0, 1, 1);
    for (const colour of colours) { paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1); }
    return [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = ([r, g, b]) => {
    const [R, G, B] = [r, g, b].map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * R + 0.7152 * G + 0.0722 * B;
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const seen = new Set();
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const node = text.parentElement;
    if (!text.textContent.trim() || !node || seen.has(node) || ['SCRIPT', 'STYLE', 'OPTION'].includes(node.tagName) || !shown(node) || node.closest(':disabled')) continue;
    seen.add(node);
    const style = getComputedStyle(node);
    const grounds = [];
    for (let at = node; at; at = at.parentElement) grounds.unshift(getComputedStyle(at).backgroundColor);
    const ground = over(['#fff', getComputedStyle(document.documentElement).backgroundColor, ...grounds]);
    const ink = node.namespaceURI.endsWith('svg') ? style.fill : style.color;
    const [a, b] = [light(over([`rgb(${ground})`, ink])), light(ground)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && +style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) found.push(`contrast ${ratio.toFixed(2)}: ${node.localName}.${node.className?.baseVal ?? node.className} "${text.textContent.trim().slice(0, 30)}"`);
  }
  for (const node of document.querySelectorAll('button, a[href], input, select, textarea, summary, [role=button]')) {
    if (!shown(node)) continue;
    const labelled = node.labels?.length || node.getAttribute('aria-label') || node.getAttribute('aria-labelledby') || node.title || node.placeholder;
    if (!labelled && !node.innerText?.trim() && !node.querySelector('img[alt]:not([alt=""])')) found.push('no name: ' + node.outerHTML.slice(0, 80));
  }
  const first = document.querySelectorAll('h1:not(.md h1)').length;
  if (first !== 1) found.push(`${first} first headings`);
  if (document.querySelectorAll('main').length !== 1) found.push(`${document.querySelectorAll('main').length} main parts`);
  const ids = [...document.querySelectorAll('[id]')].map((n) => n.id);
  const twice = ids.filter((id, n) => ids.indexOf(id) !== n);
  if (twice.length) found.push('ids that are there twice: ' + twice.join(', '));
  return found;
}"""


def hold(page, where):
    """The page keeps what every page must."""
    faults = page.evaluate(FAULTS)
    check(not faults, f"{where}: " + "; ".join(faults[:6]))


def settled(page):
    page.wait_for_function("() => !document.querySelector('[aria-busy=true]')")
    page.wait_for_timeout(500)


def look_at_all(browser, base, login, shots=None, asks="How do I install the widget on my website?"):
    """Opens every page for somebody who can sign in; `asks`: a question for Ask the bot."""
    for lang, width, height, scheme in VIEWS:
        locale = {"en": "en-GB", "ru": "ru-RU"}[lang]
        user = User(browser, base, width=width, height=height, scheme=scheme, locale=locale, shots=shots)
        kind = f"{'phone' if width < 700 else 'desk'}-{width}-{lang}-{scheme}"
        user.open("/console/")
        user.page.wait_for_selector(".sign-in")
        hold(user.page, f"{kind}, sign-in")
        user.shot(f"{kind}-sign-in")
        user.sign_in(login)
        for name, path in PAGES:
            user.open(path)
            user.page.wait_for_selector(".rail")
            settled(user.page)
            hold(user.page, f"{kind}, {name}")
            user.shot(f"{kind}-{name}")
        # A conversation, from the closed ones: the day has closed some.
        user.open("/console/inbox/closed")
        user.page.wait_for_selector(".conversations a")
        user.page.locator(".conversations a").first.click()
        user.page.wait_for_selector(".thread article")
        settled(user.page)
        hold(user.page, f"{kind}, conversation")
        user.shot(f"{kind}-conversation")
        user.open("/console/knowledge/all")
        user.page.wait_for_selector(".entries a")
        user.page.locator(".entries a").first.click()
        user.page.wait_for_selector(".article")
        settled(user.page)
        hold(user.page, f"{kind}, entry")
        user.shot(f"{kind}-entry")
        user.open("/console/ask")
        user.page.fill(".ask-box textarea", asks)
        user.page.keyboard.press("Enter")
        user.page.wait_for_selector(".asked .badge")
        settled(user.page)
        hold(user.page, f"{kind}, an answer to staff")
        user.shot(f"{kind}-asked")
        frame = user.open_widget()
        user.page.wait_for_timeout(600)
        hold(frame, f"{kind}, widget")
        user.shot(f"{kind}-widget")
        user.harmless(kind)
        user.context.close()
