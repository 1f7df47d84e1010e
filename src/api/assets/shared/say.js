// Words in the reader's language, and times and numbers as that language writes them.

/**
 * A speaker over dictionaries `{en: {…}, ru: {…}}`. Its `t(key, {name})` puts values in the place of `{name}`;
 * an entry that is an object of plural forms takes its form by `n`. `locale`: how dates and numbers are written.
 */
export function speaker(dictionaries, lang, locale = lang) {
  const words = dictionaries[lang] ?? dictionaries.en;
  const plural = new Intl.PluralRules(lang);
  const number = new Intl.NumberFormat(locale, { maximumFractionDigits: 1 });
  const t = (key, values = {}) => {
    let text = words[key] ?? dictionaries.en[key] ?? key;
    if (typeof text === "object") text = text[plural.select(values.n ?? 0)] ?? text.other;
    return text.replace(/\{(\w+)\}/g, (_, name) => (typeof values[name] === "number" ? number.format(values[name]) : values[name] ?? ""));
  };
  const has = (key) => words[key] !== undefined;
  return { t, has, lang, words, ...times(locale, t), ...numbers(lang, locale, number) };
}

function times(lang, t) {
  const clock = new Intl.DateTimeFormat(lang, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const date = new Intl.DateTimeFormat(lang, { day: "numeric", month: "short" });
  const full = new Intl.DateTimeFormat(lang, { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  /** A length of time in one or two units: 45 s, 3 min, 2 h 5 min, 4 d. */
  const span = (ms) => {
    const s = Math.max(0, Math.round(ms / 1000));
    if (s < 60) return t("spanSeconds", { s });
    const min = Math.floor(s / 60);
    if (min < 60) return t("spanMinutes", { min });
    const h = Math.floor(min / 60);
    if (h < 24) return min % 60 ? t("spanHoursMinutes", { h, min: min % 60 }) : t("spanHours", { h });
    return t("spanDays", { d: Math.floor(h / 24) });
  };
  return {
    span,
    clock: (ms) => clock.format(ms),
    full: (ms) => full.format(ms),
    day: (ms) => date.format(ms),
    /** Today's times as a clock, older ones as a date. */
    when: (ms) => (new Date(ms).toDateString() === new Date().toDateString() ? clock.format(ms) : date.format(ms)),
  };
}

function numbers(lang, locale, number) {
  const percent = new Intl.NumberFormat(locale, { style: "percent", maximumFractionDigits: 1 });
  const missing = (value) => value == null || Number.isNaN(value);
  const languages = new Intl.DisplayNames(lang, { type: "language" });
  return {
    /** A language by its code, as a word. */
    language: (code) => { try { return code ? languages.of(code) : ""; } catch { return code; } },
    number: (value) => (missing(value) ? "–" : number.format(value)),
    percent: (value) => (missing(value) ? "–" : percent.format(value)),
    /** Milliseconds of an answer: 240 ms, 1.8 s, 3 min. */
    quick: (ms, span) => (missing(ms) ? "–" : ms < 1000 ? `${Math.round(ms)} ${lang === "ru" ? "мс" : "ms"}` : ms < 60_000 ? `${number.format(ms / 1000)} ${lang === "ru" ? "с" : "s"}` : span(ms)),
    money: (value, currency) => {
      if (missing(value)) return "–";
      try {
        return new Intl.NumberFormat(locale, { style: "currency", currency, maximumFractionDigits: value < 1 ? 4 : 2 }).format(value);
      } catch {
        return `${number.format(value)} ${currency ?? ""}`.trim();
      }
    },
  };
}
