// Markdown to DOM nodes. Text only ever becomes text nodes: nothing in an answer can be HTML.

import { copyButton, el } from "./dom.js";

/** The address if a link or image may have it, else null. */
function safeUrl(url, protocols) {
  try {
    const parsed = new URL(url, location.href);
    return protocols.includes(parsed.protocol) ? parsed.href : null;
  } catch {
    return null;
  }
}

function link(url, children) {
  const href = safeUrl(url, ["http:", "https:", "mailto:", "tel:"]);
  return href ? el("a", { href, target: "_blank", rel: "noopener noreferrer" }, children) : el("span", {}, children);
}

function image(url, alt) {
  const src = safeUrl(url, ["http:", "https:"]);
  if (!src) return document.createTextNode(alt);
  const shown = el("img", { src, alt, loading: "lazy" });
  const frame = el("a", { class: "figure", href: src, target: "_blank", rel: "noopener noreferrer" }, shown);
  shown.addEventListener("error", () => shown.replaceWith(document.createTextNode(alt || src)));
  return frame;
}

const INLINE = [
  [/^\\([\\`*_{}[\]()#+\-.!|~<>])/, (m) => document.createTextNode(m[1])],
  [/^(`+)([^`]|[^`][\s\S]*?[^`])\1(?!`)/, (m) => el("code", {}, m[2].replace(/\n/g, " "))],
  [/^!\[([^\]]*)\]\(\s*<?([^\s)>]+)>?(?:\s+"[^"]*")?\s*\)/, (m) => image(m[2], m[1])],
  [/^\[((?:[^\[\]]|\[[^\]]*\])*)\]\(\s*<?([^\s)>]+)>?(?:\s+"[^"]*")?\s*\)/, (m) => link(m[2], inline(m[1]))],
  [/^<((?:https?:\/\/|mailto:)[^\s<>]+)>/, (m) => link(m[1], [m[1]])],
  [/^https?:\/\/[^\s<>"'`]*[^\s<>"'`.,:;!?)\]}*_]/, (m) => link(m[0], [m[0]])],
  [/^\*\*(?=\S)([\s\S]*?\S)\*\*/, (m) => el("strong", {}, inline(m[1]))],
  [/^__(?=\S)([\s\S]*?\S)__(?!\w)/, (m) => el("strong", {}, inline(m[1]))],
  [/^~~(?=\S)([\s\S]*?\S)~~/, (m) => el("del", {}, inline(m[1]))],
  [/^\*(?=[^\s*])([\s\S]*?[^\s*])\*(?!\*)/, (m) => el("em", {}, inline(m[1]))],
  [/^_(?=[^\s_])([\s\S]*?[^\s_])_(?![\w_])/, (m) => el("em", {}, inline(m[1]))],
  [/^ {2,}\n|^\\\n/, () => el("br")],
];

function inline(text) {
  const nodes = [];
  let plain = "";
  const flush = () => { if (plain) nodes.push(document.createTextNode(plain)); plain = ""; };
  for (let at = 0; at < text.length;) {
    const rest = text.slice(at);
    const inWord = at > 0 && /[\p{L}\p{N}]/u.test(text[at - 1]);
    let found = null;
    if (/[\\`!\[<h*_~ ]/.test(rest[0]) && !(inWord && /[_h]/.test(rest[0]))) {
      for (const [pattern, make] of INLINE) {
        const match = pattern.exec(rest);
        if (match) { found = [match[0].length, make(match)]; break; }
      }
    }
    if (found) { flush(); nodes.push(found[1]); at += found[0]; }
    else { plain += text[at]; at += 1; }
  }
  flush();
  return nodes;
}

function codeBlock(language, code, words) {
  return el("div", { class: "code" },
    el("div", { class: "code-head" }, el("span", {}, language), copyButton(() => code, words)),
    el("pre", { tabindex: "0" }, el("code", {}, code)));
}

const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const RULE = /^ {0,3}(?:(?:-\s*){3,}|(?:\*\s*){3,}|(?:_\s*){3,})$/;
const FENCE = /^(\s*)(`{3,}|~{3,})\s*([^\s`]*)[^`]*$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$/;
const DELIMITER = /^\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$/;

/** Nodes of a list of lines. */
function blocks(lines, words) {
  const nodes = [];
  for (let i = 0; i < lines.length;) {
    const line = lines[i];
    const fence = FENCE.exec(line);
    const heading = HEADING.exec(line);
    if (!line.trim()) {
      i += 1;
    } else if (fence) {
      const end = lines.findIndex((l, n) => n > i && l.trim().startsWith(fence[2]) && !l.trim().replace(/[`~]/g, ""));
      const stop = end < 0 ? lines.length : end;
      const indent = fence[1].length;
      const code = lines.slice(i + 1, stop).map((l) => (l.slice(0, indent).trim() ? l : l.slice(indent)));
      nodes.push(codeBlock(fence[3], code.join("\n"), words));
      i = stop + 1;
    } else if (heading) {
      nodes.push(el(`h${Math.min(6, heading[1].length + 2)}`, {}, inline(heading[2])));
      i += 1;
    } else if (RULE.test(line)) {
      nodes.push(el("hr"));
      i += 1;
    } else if (/^\s*>/.test(line)) {
      let end = i;
      while (end < lines.length && /^\s*>/.test(lines[end])) end += 1;
      nodes.push(el("blockquote", {}, blocks(lines.slice(i, end).map((l) => l.replace(/^\s*> ?/, "")), words)));
      i = end;
    } else if (line.includes("|") && DELIMITER.test(lines[i + 1] ?? "") && lines[i + 1].includes("-")) {
      let end = i + 2;
      while (end < lines.length && lines[end].includes("|")) end += 1;
      nodes.push(table(lines.slice(i, end)));
      i = end;
    } else if (ITEM.test(line)) {
      const [list, end] = listAt(lines, i, words);
      nodes.push(list);
      i = end;
    } else {
      let end = i + 1;
      while (end < lines.length && lines[end].trim() && !FENCE.test(lines[end]) && !HEADING.test(lines[end])
        && !ITEM.test(lines[end]) && !/^\s*>/.test(lines[end])) end += 1;
      nodes.push(el("p", {}, inline(lines.slice(i, end).join("\n").trim())));
      i = end;
    }
  }
  return nodes;
}

function cells(row) {
  return row.trim().replace(/^\||\|$/g, "").split(/(?<!\\)\|/).map((cell) => inline(cell.trim()));
}

function table(rows) {
  const head = el("tr", {}, cells(rows[0]).map((cell) => el("th", {}, cell)));
  const body = rows.slice(2).map((row) => el("tr", {}, cells(row).map((cell) => el("td", {}, cell))));
  return el("div", { class: "table" }, el("table", {}, el("thead", {}, head), el("tbody", {}, body)));
}

/** The list that begins at a line, and the line after it. */
function listAt(lines, start, words) {
  const [, indent, marker] = ITEM.exec(lines[start]);
  const numbered = /\d/.test(marker);
  const list = el(numbered ? "ol" : "ul", numbered ? { start: parseInt(marker, 10) } : {});
  let i = start;
  while (i < lines.length) {
    const item = ITEM.exec(lines[i]);
    if (!item || item[1].length !== indent.length || /\d/.test(item[2]) !== numbered) break;
    const inside = [item[3]];
    const depth = item[1].length + item[2].length + 1;
    i += 1;
    while (i < lines.length) {
      const next = lines[i];
      const deeper = next.length - next.trimStart().length > indent.length;
      if (!next.trim() && !(lines[i + 1] ?? "").trim()) break;
      if (next.trim() && !deeper && (ITEM.test(next) || !lines[i - 1].trim() || FENCE.test(next) || HEADING.test(next))) break;
      inside.push(next.slice(0, depth).trim() ? next.trimStart() : next.slice(depth));
      i += 1;
    }
    while (inside.length && !inside[inside.length - 1].trim()) inside.pop();
    const content = blocks(inside, words);
    const only = content.length && content[0].nodeName === "P" ? [...content[0].childNodes, ...content.slice(1)] : content;
    list.append(el("li", {}, only));
    while (i < lines.length && !lines[i].trim() && ITEM.test(lines[i + 1] ?? "") && ITEM.exec(lines[i + 1])[1].length >= indent.length) i += 1;
  }
  return [list, i];
}

/** Shows Markdown inside a node. */
export function show(node, markdown, words) {
  node.replaceChildren(...blocks(markdown.replace(/\r\n?/g, "\n").split("\n"), words));
}
